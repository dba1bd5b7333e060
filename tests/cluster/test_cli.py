"""`kubectl localmodel` on a real control plane, with the rights that the roles view and edit give."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.plugin import Plugin
from tests.cluster.scene import Scene
from tests.support.controlplane import ControlPlane
from tests.support.fleet import GIB, FleetThread
from tests.support.processes import wait_until

USERS = "cli-users"
DENIED = {
    "state": "ModelDownloadError",
    "reason": "AccessDenied",
    "message": "403 \x1b[2Jfrom bucket models",
    "attempts": 3,
    "nextRetryTime": "2030-01-01T00:00:00Z",
    "bytesDone": 0,
}


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return {"agent_silence_seconds": 10}


@pytest.fixture(scope="module")
def people(control_plane: ControlPlane) -> Iterator[dict[str, Path]]:
    """Kubeconfigs: `viewer` and `editor` of the whole cluster, `member` edits one namespace."""
    control_plane.kubectl("create", "namespace", USERS)
    for name, role in (("viewer", "view"), ("editor", "edit"), ("member", "edit")):
        control_plane.kubectl("create", "serviceaccount", name, "-n", USERS)
        kind = ("rolebinding", "-n", USERS) if name == "member" else ("clusterrolebinding",)
        control_plane.kubectl(
            "create", *kind, f"cli-{name}", f"--clusterrole={role}", f"--serviceaccount={USERS}:{name}"
        )  # fmt: skip
    yield {
        name: control_plane.kubeconfig_for(name, USERS) for name in ("viewer", "editor", "member")
    }
    control_plane.kubectl("delete", "clusterrolebinding", "cli-viewer", "cli-editor")
    control_plane.kubectl("delete", "namespace", USERS, "--wait=false")


@pytest.fixture(scope="module")
def viewer(people: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Plugin:
    made = Plugin(tmp_path_factory.mktemp("viewer"), people["viewer"])
    # The roles are joined by kube-controller-manager, some moments after the installation.
    wait_until(lambda: made("status", "-o", "json").code == 0, seconds=30, what="rights")
    return made


@pytest.fixture(scope="module")
def editor(
    viewer: Plugin, people: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Plugin:
    return Plugin(tmp_path_factory.mktemp("editor"), people["editor"])


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """And the ready node b."""
    scene.add_node("b")
    return scene


def test_status_shows_what_the_agents_say(scene: Scene, viewer: Plugin, fleet: FleetThread) -> None:
    fleet.change(outcomes={scene.name("bad"): DENIED})
    scene.add_cache("good")
    scene.add_cache("bad")
    scene.wait(lambda: scene.ready("good"), "ready")
    scene.wait(lambda: scene.condition("bad")["reason"] == "AccessDenied", "failed")
    rows = {row[0]: row[1:4] for row in viewer("status").rows}
    assert rows[scene.name("good")] == ["Ready", "2/2", "100%"]
    assert rows[scene.name("bad")][:2] == ["Stalled", "0/2,"]
    text = viewer("status", scene.name("bad")).out
    assert "403 \\x1b[2Jfrom bucket models" in text
    found = viewer.data("status", scene.name("bad"))
    assert [one["reason"] for one in found["nodes"]] == ["AccessDenied"] * 2
    assert found["nodes"][0]["nextRetryTime"] == "2030-01-01T00:00:00Z"
    found = viewer.data("status", scene.name("good"))
    assert {one["verifiedBy"] for one in found["nodes"]} == {"sha256"}


def test_explain_and_node_tell_the_chain_and_what_to_do(
    scene: Scene, viewer: Plugin, fleet: FleetThread
) -> None:
    fleet.change(outcomes={scene.name("bad"): DENIED})
    scene.add_cache("bad")
    scene.wait(lambda: scene.condition("bad")["reason"] == "AccessDenied", "failed")
    node = scene.name("a")
    text = viewer("explain", scene.name("bad"), node).out
    for fact in (
        f"Node {node} is Ready.",
        f"It belongs to node group {scene.name('gpu')}",
        "The model is on the node's work list.",
        "Its agent has answered to the latest work list.",
        "The state is Failed (AccessDenied)",
        f"kubectl localmodel retry {scene.name('bad')} tries again at once.",
    ):
        assert fact in " ".join(text.split()), text
    assert (
        f"{scene.name('gpu')} has 2 nodes, 2 of them Ready"
        in viewer("explain", scene.name("bad")).out
    )
    scene.wait(lambda: "AccessDenied" in scene.events("a"), "the event")
    text = viewer("node", node).out
    assert "Disk  " in text
    assert text.splitlines()[3].startswith("MODEL")
    assert "LAST EVENTS" in text
    assert "\x1b" not in text


def test_a_plan_agrees_with_what_the_controller_then_does(
    scene: Scene, viewer: Plugin, fleet: FleetThread
) -> None:
    fleet.change(bytes_total=80 * GIB)
    scene.add_cache("big", size="80Gi")
    scene.wait(lambda: scene.ready("big"), "ready")
    wire: dict[str, Any] = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelCache",
        "metadata": {"name": scene.name("late")},
        "spec": {
            "sourceModelUri": "s3://models/late",
            "modelSize": "30Gi",
            "nodeGroups": [scene.name("gpu")],
        },
    }
    ended = viewer("plan", "-f", "-", "--offline", given=yaml.safe_dump(wire))
    assert ended.code == 4, ended.err
    assert f"would have to go: {scene.name('big')} (80.0 GiB)" in ended.out
    assert scene.read("localmodelcache", "late") is None
    scene.apply(wire)
    scene.wait(lambda: scene.condition("late")["reason"] == "NoSpace", "no space")
    text = " ".join(viewer("explain", scene.name("late"), scene.name("a")).out.split())
    assert "The model is not on the node's work list: needs 30.0 GiB" in text
    wire["spec"] |= {"modelSize": "20Gi"}
    wire["metadata"] = {"name": scene.name("small")}
    assert viewer("plan", "-f", "-", "--offline", given=yaml.safe_dump(wire)).code == 0


def test_an_editor_creates_waits_and_retries(
    scene: Scene, editor: Plugin, fleet: FleetThread, folder: Path
) -> None:
    model = folder / "model"
    model.mkdir()
    (model / "weights").write_bytes(bytes(1 << 20))
    name = scene.name("made")
    made: dict[str, Any] = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelCache",
        "metadata": {"name": name},
        "spec": {
            "sourceModelUri": f"file://{model}",
            "modelSize": "1Mi",
            "nodeGroups": [scene.name("gpu")],
        },
    }
    arguments = ("create", f"file://{model}", "--name", name, "--group", scene.name("gpu"))
    printed = editor(*arguments, "--dry-run=client", "-o", "yaml")
    assert yaml.safe_load(printed.out) == made
    fleet.change(outcomes={name: DENIED})
    ended = editor(*arguments, "--wait", "--timeout", "3s")
    assert ended.code == 4, ended.err
    assert f"localmodelcache/{name} created (1Mi)" in ended.out
    assert "AccessDenied" in ended.out
    found = scene.read("localmodelcache", "made")
    assert found is not None
    assert found["spec"] == made["spec"]
    managers = scene.control_plane.kubectl(
        "get", "localmodelcache", name, "-o", "jsonpath={.metadata.managedFields[*].manager}",
        "--show-managed-fields",
    )  # fmt: skip
    assert "kubectl-localmodel" in managers.split()
    ended = editor("retry", name)
    assert ended.code == 0, ended.err
    found = scene.read("localmodelcache", "made")
    assert found is not None
    assert found["spec"] == made["spec"], "the retry took nothing away"
    value = found["metadata"]["annotations"]["localmodel.kserve.io/retry"]
    scene.wait(lambda: _retries(scene) == [value], "the agents are asked")
    waiting = editor.start("wait", name, "--timeout", "60s")
    fleet.change(outcomes={})
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert f"{name} ████████████████████████ 100%" in out
    ended = editor(*arguments)
    assert ended.code == 3
    assert f"Cache {name} exists already." in ended.err
    scene.delete("localmodelcache", "made")


def _retries(scene: Scene) -> list[str | None]:
    found = scene.read("localmodelnode", "a") or {"spec": {}}
    return [line.get("retry") for line in found["spec"].get("localModels", ())]


def test_who_may_only_look_is_told_so(scene: Scene, viewer: Plugin) -> None:
    ended = viewer(
        "create", "s3://models/m", "--name", scene.name("no"), "-g", scene.name("gpu"), "--size", "1Gi"
    )  # fmt: skip
    assert ended.code == 3
    assert ended.err.startswith(f"Error: You may not create {scene.name('no')}: ")
    assert "Hint: ask an admin for the ClusterRole view (edit, to change something)" in ended.err


def test_a_member_of_one_namespace_sees_its_caches_and_no_others(
    scene: Scene, people: dict[str, Path], folder: Path, viewer: Plugin
) -> None:
    scene.add_cache("theirs")
    scene.add_cache("mine", namespace=USERS)
    scene.wait(lambda: scene.ready("mine", namespace=USERS), "ready")
    member = Plugin(folder, people["member"])
    name = scene.name("mine")
    ended = member("status", "-n", USERS)
    assert [row[:2] for row in ended.rows[1:]] == [[f"{USERS}/{name}", "Ready"]]
    ended = member("status", f"{USERS}/{name}")
    assert "you may not list localmodelnodes" in ended.err
    assert [row[:2] for row in ended.rows[3:]] == [
        ["NODE", "STATE"],
        [scene.name("a"), "Downloaded"],
        [scene.name("b"), "Downloaded"],
    ]
    ended = member("explain", name, "-n", USERS)
    assert ended.code == 0, ended.err
    assert "is Ready" in ended.out
    assert "Groups and nodes are not looked at." in ended.err
    ended = member("status", scene.name("theirs"))
    assert ended.code == 3
    assert "You may not read localmodelcaches" in ended.err


def test_silent_nodes_and_missing_groups_are_explained(
    scene: Scene, viewer: Plugin, fleet: FleetThread
) -> None:
    scene.add_cache("lost", "nowhere")
    scene.wait(lambda: scene.condition("lost")["reason"] == "NodeGroupNotFound", "told")
    text = viewer("explain", scene.name("lost")).out
    assert f"Node group {scene.name('nowhere')} does not exist" in text
    scene.control_plane.set_node_ready(scene.name("b"), False)
    fleet.change(silent={scene.name("b")})
    scene.add_cache("m")
    scene.wait(lambda: scene.condition("m")["reason"] == "NodeNotReady", "told")
    text = " ".join(viewer("explain", scene.name("m"), scene.name("b")).out.split())
    assert f"Node {scene.name('b')} is not Ready." in text
    assert "NodeNotReady (waits until somebody acts)" in text


def test_a_complete_copy_on_a_dead_node_and_its_silent_agent_are_shown_so(
    scene: Scene, viewer: Plugin, fleet: FleetThread
) -> None:
    scene.add_cache("m")
    scene.wait(lambda: scene.ready("m"), "ready")
    dead = scene.name("b")
    assert "silent" not in viewer("node", dead).out
    scene.control_plane.set_node_ready(dead, False)
    scene.wait(lambda: scene.condition("m")["reason"] == "NodeNotReady", "told")
    rows = [row for row in viewer("status", scene.name("m")).rows if row]
    assert rows[-2][:3] == [dead, "Downloaded", "NodeNotReady"], "trouble comes first"
    assert rows[-1][:3] == [scene.name("a"), "Downloaded", "Published"]
    text = " ".join(viewer("explain", scene.name("m"), dead).out.split())
    assert "The state is Downloaded (NodeNotReady): the node is not Ready." in text
    assert f"kubectl describe node {dead} says why." in text
    scene.control_plane.set_node_ready(dead, True)
    scene.wait(lambda: scene.ready("m"), "ready again")
    fleet.change(silent={dead})
    scene.wait(lambda: scene.node_states("m").get("b") == "", "silent")
    assert "Its agent has been silent for " in viewer("node", dead).out


def test_what_no_service_uses_is_listed(scene: Scene, viewer: Plugin) -> None:
    scene.add_cache("idle")
    scene.wait(lambda: scene.ready("idle"), "ready")
    ended = viewer("gc", "--dry-run")
    row = next(row for row in ended.rows if row and row[0] == scene.name("idle"))
    assert row[1:6] == ["1.0", "GiB", "2", "2.0", "GiB"]
    assert viewer("gc").code == 2


def test_kubectl_completes_our_arguments_with_live_names(scene: Scene, viewer: Plugin) -> None:
    scene.add_cache("named")
    ended = viewer("__complete", "localmodel", "status", scene.name(""), plain=True)
    assert [
        line.partition("\t")[0] for line in ended.out.splitlines() if not line.startswith(":")
    ] == [scene.name("named")]
    ended = viewer("__complete", "localmodel", "expl", plain=True)
    assert ended.out.startswith("explain\t")
