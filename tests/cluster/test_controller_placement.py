"""The controller on a real control plane, with its own rights, and a fleet of simulated agents."""

import json
import time

import pytest

from tests.cluster.scene import Scene
from tests.support.fleet import FleetThread
from tests.support.programs import Controller


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """And the ready node b."""
    scene.add_node("b")
    return scene


def group_on(scene: Scene, node: str) -> str:
    """Through which the cache m is on the node."""
    (line,) = (scene.read("localmodelnode", node) or {})["spec"]["localModels"]
    return str(line["nodeGroup"]).removeprefix(scene.prefix)


def observes(scene: Scene) -> bool:
    """Whether all that is said of the cache m is said of its current spec."""
    found = scene.read("localmodelcache", "m") or {}
    status = found["status"]
    said = [status, *status["conditions"]]
    return {of["observedGeneration"] for of in said} == {found["metadata"]["generation"]}


def test_a_cache_reaches_its_nodes_and_becomes_ready(scene: Scene) -> None:
    scene.add_cache()
    scene.wait(scene.ready, "cache ready")
    assert scene.work_list("a") == ["m"]
    assert scene.node_states() == {"a": "NodeDownloaded", "b": "NodeDownloaded"}
    status = scene.status()
    assert status["copies"] == {
        "summary": "2/2",
        "available": 2,
        "total": 2,
        "failed": 0,
        "downloading": 0,
        "pending": 0,
    }
    assert status["revision"] == "r1"
    assert status["progress"]["percent"] == 100
    group = scene.read("localmodelnodegroup", "gpu")
    assert group is not None
    scene.wait(
        lambda: (scene.read("localmodelnodegroup", "gpu") or {})["status"].get("used") == "1Gi",
        "group status",
    )
    scene.control_plane.kubectl(
        "wait", "--for=condition=Ready", "--timeout=5s", "localmodelcache", scene.name("m")
    )


def test_what_becomes_of_copies_is_told_in_events_and_in_the_log(
    scene: Scene, fleet: FleetThread, controller: Controller
) -> None:
    loading = {"state": "ModelDownloading", "reason": "Downloading", "bytesDone": 1}
    fleet.change(outcomes={scene.name("m"): loading})
    scene.add_cache()
    scene.wait(
        lambda: all({"Placed", "Downloading"} <= scene.events(node) for node in ("a", "b")),
        "placed and downloading",
    )
    scene.wait(lambda: "Progressing" in scene.events("m"), "told of the cache too")
    fleet.change(outcomes={})
    scene.wait(lambda: all("Downloaded" in scene.events(node) for node in ("a", "b")), "downloaded")
    scene.wait(lambda: "Available" in scene.events("m"), "told of the cache too")
    scene.delete("localmodelcache", "m")
    scene.wait(lambda: all("Deleted" in scene.events(node) for node in ("a", "b")), "deleted")
    scene.wait(lambda: "Deleted" in scene.events("m"), "told of the cache too")
    lines = [
        line
        for line in controller.log.read_text(encoding="utf-8").splitlines()
        if "state changed" in line and f"object={scene.name('m')} " in line
    ]
    for reason in ("Progressing", "Available", "Deleted"):
        assert sum(f"reason={reason}" in line for line in lines) == 1, lines


def test_a_namespace_cache_works_the_same(scene: Scene) -> None:
    namespace = scene.name("team")
    scene.add_namespace("team")
    scene.add_cache("m", namespace=namespace)
    scene.wait(lambda: scene.ready("m", namespace=namespace), "cache ready")
    line = scene.read("localmodelnode", "a")
    assert line is not None
    assert line["spec"]["localModels"][0]["namespace"] == namespace
    scene.delete("localmodelnamespacecache", "m", namespace=namespace)
    scene.wait(lambda: scene.work_list("a") == [], "the node is cleared")


def test_nodes_come_change_their_labels_and_go(scene: Scene) -> None:
    scene.add_cache()
    scene.wait(scene.ready, "cache ready")
    scene.add_node("c")
    scene.wait(lambda: "c" in scene.node_states() and scene.ready(), "new node holds the model")
    scene.add_node("c", pool="other")
    scene.wait(lambda: scene.work_list("c") is None, "relabelled node is cleared")
    scene.wait(lambda: "c" not in scene.node_states(), "relabelled node leaves the status")
    scene.add_node("c")
    scene.wait(lambda: scene.node_states().get("c") == "NodeDownloaded", "node is back")
    scene.delete("node", "c")
    scene.wait(lambda: scene.work_list("c") is None, "work list of the deleted node is gone")
    scene.wait(lambda: scene.node_states().keys() == {"a", "b"}, "status without the node")

    def counted() -> bool:
        status = (scene.read("localmodelnodegroup", "gpu") or {})["status"]
        return bool(status["nodes"] == {"total": 2, "ready": 2} and status["caches"] == 1)

    scene.wait(counted, "the group's too")


def test_nothing_is_placed_through_a_group_whose_pods_would_see_another_folder(
    scene: Scene, fleet: FleetThread
) -> None:
    scene.wait(lambda: scene.work_list("a") is not None, "the agents are asked")
    fleet.change(host_path="/data")
    for seen in (lambda: scene.events("gpu"), lambda: {scene.condition()["reason"]}):
        scene.wait(lambda seen=seen: "PathMismatch" in seen(), "told")  # type: ignore[misc]
        scene.add_cache()
    assert "serves /models, the node's agent fills /data" in scene.condition()["message"]
    assert scene.work_list("a") == []
    fleet.change(host_path="/models")
    scene.wait(scene.ready, "placed by itself")


def test_a_node_that_is_not_ready_is_counted_and_comes_back(scene: Scene) -> None:
    scene.control_plane.set_node_ready(scene.name("b"), False)
    scene.add_cache()
    scene.wait(lambda: scene.condition()["reason"] == "NodeNotReady", "not ready is told")
    assert scene.status()["copies"]["total"] == 2
    scene.control_plane.set_node_ready(scene.name("b"), True)
    scene.wait(scene.ready, "cache ready")
    scene.control_plane.set_node_ready(scene.name("b"), False)
    scene.wait(lambda: scene.condition()["reason"] == "NodeNotReady", "not ready is told again")
    assert scene.status()["copies"]["available"] == 1
    assert scene.work_list("b") == ["m"], "it keeps what it has"
    scene.control_plane.set_node_ready(scene.name("b"), True)
    scene.wait(scene.ready, "ready again")


def test_groups_are_edited_deleted_and_come_back(scene: Scene) -> None:
    scene.add_node("x", pool="new")
    scene.add_cache("m", "gpu")
    scene.wait(scene.ready, "cache ready")
    scene.add_group("gpu", pool="new")
    scene.wait(lambda: scene.node_states() == {"x": "NodeDownloaded"}, "group moved to x")
    scene.wait(lambda: scene.work_list("a") is None, "a is cleared")
    scene.delete("localmodelnodegroup", "gpu")
    scene.wait(lambda: scene.condition()["reason"] == "NodeGroupNotFound", "missing group is told")
    assert scene.name("gpu") in scene.condition()["message"]
    scene.wait(lambda: "NodeGroupNotFound" in scene.events("m"), "told in an event")
    scene.add_group("gpu")
    scene.wait(lambda: scene.node_states().keys() == {"a", "b"} and scene.ready(), "group is back")


def test_a_group_that_comes_after_its_cache_and_one_that_never_comes(scene: Scene) -> None:
    scene.add_node("x", pool="late")
    scene.add_cache("m", "late")
    scene.add_cache("n", "never")
    for name in ("m", "n"):
        scene.wait(
            lambda name=name: scene.condition(name)["reason"] == "NodeGroupNotFound",  # type: ignore[misc]
            "missing group is told",
        )
    scene.add_group("late")
    scene.wait(lambda: scene.ready("m"), "placed when its group is there")
    scene.delete("localmodelcache", "n")
    scene.wait(lambda: scene.read("localmodelcache", "n") is None, "nothing keeps it")


def test_caches_are_edited(scene: Scene) -> None:
    scene.add_group("cpu")
    scene.add_node("c", pool="cpu")
    scene.add_cache("m", "gpu")
    scene.wait(scene.ready, "cache ready")
    scene.add_cache("m", "cpu")
    scene.wait(lambda: scene.node_states() == {"c": "NodeDownloaded"}, "cache moved to cpu")
    scene.wait(lambda: scene.work_list("a") == [], "a is cleared, and stays in its group")
    scene.add_cache("m", "gpu", "cpu", allowPatterns=["*.safetensors"])
    scene.wait(lambda: len(scene.node_states()) == 3 and scene.ready(), "cache on both groups")
    scene.add_group("all", pool="cpu")
    scene.add_cache("m", "gpu", "cpu", "all")
    scene.wait(lambda: group_on(scene, "c") == "cpu", "its first group there")
    scene.add_cache("m", "gpu", "all", "cpu")
    scene.wait(lambda: group_on(scene, "c") == "all", "its first group there, reordered")
    scene.wait(lambda: observes(scene) and scene.ready(), "the status is of the last edit")


def test_what_does_not_fit_waits_and_is_placed_when_space_comes_free(scene: Scene) -> None:
    scene.add_group("gpu", limit="10Gi")
    scene.add_cache("first", size="8Gi")
    scene.wait(lambda: scene.ready("first"), "first is placed")
    scene.add_cache("second", size="4Gi")
    scene.wait(lambda: scene.condition("second")["reason"] == "NoSpace", "no space is told")
    message = scene.condition("second")["message"]
    assert "needs 4.0 GiB" in message
    assert f"group {scene.name('gpu')} allows 10.0 GiB per node" in message
    assert f"{scene.name('first')} (8.0 GiB)" in message
    assert scene.node_states("second") == dict.fromkeys(("a", "b"), "NodeDownloadPending")
    assert scene.status("second")["copies"]["pending"] == 2
    assert scene.work_list("a") == ["first"]
    scene.add_group("gpu", limit="12Gi")
    scene.wait(lambda: scene.ready("second"), "second is placed when the limit grows")
    scene.add_cache("third", size="8Gi")
    scene.wait(lambda: scene.condition("third")["reason"] == "NoSpace", "no space is told")
    scene.delete("localmodelcache", "first")
    scene.wait(lambda: scene.ready("third"), "third is placed when space comes free")
    scene.wait(lambda: "NoSpace" in scene.events("third"), "told in an event")


def test_a_deleted_cache_goes_only_when_its_nodes_confirmed(
    scene: Scene, fleet: FleetThread
) -> None:
    scene.add_cache()
    scene.wait(scene.ready, "cache ready")
    fleet.change(evicts=False)
    scene.delete("localmodelcache", "m")
    scene.wait(lambda: scene.condition()["reason"] == "Deleting", "deletion is told")
    scene.wait(lambda: scene.work_list("a") == [], "work list is empty")
    assert scene.node_states() == {"a": "NodeDownloaded", "b": "NodeDownloaded"}
    fleet.change(evicts=True)
    scene.wait(lambda: scene.read("localmodelcache", "m") is None, "cache is gone")


def test_a_node_whose_agent_never_spoke_has_nothing_to_confirm(
    scene: Scene, fleet: FleetThread
) -> None:
    """Long before its silence would count."""
    fleet.change(silent={scene.name("b")})
    scene.add_cache()
    scene.wait(lambda: scene.node_states().get("a") == "NodeDownloaded", "a holds it")
    scene.wait(lambda: scene.work_list("b") == ["m"], "b was asked for it")
    scene.delete("localmodelcache", "m")
    scene.wait(lambda: scene.read("localmodelcache", "m") is None, "cache is gone")


def test_deleting_one_of_two_caches_of_a_uri_does_not_wait_for_bytes(
    scene: Scene, fleet: FleetThread
) -> None:
    scene.add_cache("one", uri="hf://a/b")
    scene.add_cache("two", uri="hf://a/b")
    scene.wait(lambda: scene.ready("one") and scene.ready("two"), "both ready")
    fleet.change(evicts=False)
    scene.delete("localmodelcache", "one")
    scene.wait(lambda: scene.read("localmodelcache", "one") is None, "cache is gone")
    assert scene.work_list("a") == ["two"]


def test_a_failing_copy_speaks_for_its_cache(scene: Scene, fleet: FleetThread) -> None:
    failure = {
        "state": "ModelDownloadError",
        "reason": "AccessDenied",
        "message": "s3 answered 403",
        "bytesDone": 0,
    }
    fleet.change(outcomes={scene.name("m"): failure})
    scene.add_cache()
    scene.wait(lambda: scene.condition()["reason"] == "AccessDenied", "failure is told")
    assert scene.condition(type="Stalled")["status"] == "True"
    assert scene.status()["copies"]["failed"] == 2
    for about in ("m", "a", "b"):
        scene.wait(lambda about=about: "AccessDenied" in scene.events(about), "told in an event")  # type: ignore[misc]
    fleet.change(outcomes={})
    scene.wait(scene.ready, "cache ready")


def test_a_work_list_edited_or_deleted_by_hand_is_mended(scene: Scene) -> None:
    scene.add_cache()
    scene.wait(scene.ready, "cache ready")
    patch = json.dumps({"spec": {"localModels": []}})
    name = scene.name("a")
    scene.control_plane.kubectl("patch", "localmodelnode", name, "--type=merge", "-p", patch)
    scene.wait(lambda: scene.work_list("a") == ["m"], "edited list is mended")
    scene.control_plane.kubectl("delete", "localmodelnode", name)
    scene.wait(lambda: scene.work_list("a") == ["m"], "deleted list is back")
    scene.wait(scene.ready, "cache ready")


def test_what_others_write_into_a_status_or_a_list_is_put_right_and_garbage_survived(
    scene: Scene,
) -> None:
    scene.add_cache()
    scene.wait(scene.ready, "cache ready")
    kubectl, cache, node = scene.control_plane.kubectl, scene.name("m"), scene.name("a")
    lie = {"copies": {"available": 99}, "nodeStatus": {"nobody": "NodeDownloaded"}}
    kubectl(
        "patch", "localmodelcache", cache, "--subresource=status", "--type=merge",
        "--field-manager=somebody", "-p", json.dumps({"status": lie}),
    )  # fmt: skip
    scene.wait(
        lambda: (
            scene.node_states().keys() == {"a", "b"} and scene.status()["copies"]["available"] == 2
        ),
        "the truth again",
    )
    list_ = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelNode",
        "metadata": {"name": node},
        "spec": {"localModels": []},
    }
    kubectl(
        "apply", "--server-side", "--force-conflicts", "--field-manager=somebody", "-f", "-",
        input=json.dumps(list_),
    )  # fmt: skip
    scene.wait(lambda: scene.work_list("a") == ["m"], "another manager's list is mended")

    def answered() -> bool:
        found = scene.read("localmodelnode", "a") or {}
        generation = found.get("status", {}).get("observedGeneration")
        return bool(generation == found["metadata"]["generation"])

    scene.wait(answered, "the agent answered to the mended list")
    garbage = {"observedGeneration": 7777777, "modelStatus": {cache: "", "x/y/z": ""}, "models": []}
    kubectl(
        "patch", "localmodelnode", node, "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": garbage}),
    )  # fmt: skip
    scene.wait(lambda: scene.node_states()["a"] == "NodeDownloadPending", "what is not there")
    scene.add_cache("n")
    scene.wait(lambda: scene.ready("n"), "works on")


def test_a_node_of_the_same_name_that_comes_back_starts_clean(scene: Scene) -> None:
    scene.add_cache()
    scene.wait(scene.ready, "cache ready")
    before = scene.read("localmodelnode", "b")
    scene.delete("node", "b")
    scene.add_node("b")
    node = scene.read("node", "b")
    assert before is not None
    assert node is not None

    def belongs_to_the_new_node() -> bool:
        found = scene.read("localmodelnode", "b")
        if found is None or found["metadata"]["uid"] == before["metadata"]["uid"]:
            return False
        owner = found["metadata"]["ownerReferences"][0]["uid"]
        return bool(owner == node["metadata"]["uid"])

    scene.wait(belongs_to_the_new_node, "a list of its own")
    scene.wait(scene.ready, "cache ready")


def test_a_restart_changes_nothing_and_finishes_what_happened_meanwhile(
    scene: Scene, controller: Controller
) -> None:
    scene.add_cache("stays")
    scene.add_cache("goes")
    scene.wait(lambda: scene.ready("stays") and scene.ready("goes"), "caches ready")
    scene.wait(lambda: scene.work_list("b") == ["goes", "stays"], "work lists")

    def versions() -> list[str]:
        found = [scene.read("localmodelnode", n) for n in ("a", "b")]
        found += [scene.read("localmodelcache", "stays"), scene.read("localmodelnodegroup", "gpu")]
        return [item["metadata"]["resourceVersion"] for item in found if item]

    before = versions()
    controller.stop()
    controller.start_ready()
    scene.wait(lambda: bool(controller.state()["leading"]), "leads again")
    time.sleep(2)  # longer than it takes to look at everything
    assert versions() == before
    controller.stop()
    scene.delete("localmodelcache", "goes")
    scene.delete("node", "b")
    controller.start_ready()
    scene.wait(lambda: scene.read("localmodelcache", "goes") is None, "deleted cache is gone")
    scene.wait(lambda: scene.node_states("stays").keys() == {"a"}, "deleted node is gone")
