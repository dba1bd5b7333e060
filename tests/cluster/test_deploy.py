"""The installation as a user applies it, and the examples beside it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import (
    AGENTS_NAMESPACE,
    CONTROLLER_NAMESPACE,
    CREDENTIALS_NAMESPACE,
    REPOSITORY,
)
from tests.support.controlplane import ControlPlane

OVERLAYS = sorted(path.name for path in (REPOSITORY / "deploy/overlays").iterdir())
EXAMPLES = sorted(path.name for path in (REPOSITORY / "deploy/examples").iterdir())
SERVER_SIDE = ("apply", "--server-side", "--validate=strict")

Objects = list[dict[str, Any]]


def built(control_plane: ControlPlane, folder: str) -> Objects:
    return list(yaml.safe_load_all(control_plane.kubectl("kustomize", folder)))


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> Objects:
    return built(control_plane, "deploy")


@pytest.fixture(scope="module")
def kserve(control_plane: ControlPlane) -> Iterator[None]:
    """A cluster with KServe has its namespace."""
    control_plane.kubectl("create", "namespace", "kserve")
    yield
    control_plane.kubectl("delete", "namespace", "kserve", "--wait=false")


def of_kind(objects: Objects, *kinds: str) -> Objects:
    return [item for item in objects if item["kind"] in kinds]


def workload(objects: Objects, kind: str) -> tuple[str, dict[str, Any]]:
    """Namespace and pod template of the only Deployment or DaemonSet."""
    (found,) = of_kind(objects, kind)
    template: dict[str, Any] = found["spec"]["template"]
    return found["metadata"]["namespace"], template


@pytest.mark.usefixtures("kserve")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_applies(control_plane: ControlPlane, overlay: str) -> None:
    folder = f"deploy/overlays/{overlay}"
    # A trial with a manager's name of its own owns nothing yet, so it must insist.
    control_plane.kubectl(*SERVER_SIDE, "--dry-run=server", "--force-conflicts", "-k", folder)


def test_applying_again_changes_nothing(control_plane: ControlPlane) -> None:
    def versions() -> dict[str, str]:
        answer = json.loads(control_plane.kubectl(*SERVER_SIDE, "-k", "deploy", "-o", "json"))
        # Where there is a status, others write it meanwhile: the generation leaves that out.
        return {
            f"{item['kind']} {item['metadata']['name']}": item["metadata"].get("generation")
            or item["metadata"]["resourceVersion"]
            for item in answer["items"]
        }

    first = versions()
    assert "DaemonSet localmodel-agent" in first
    assert versions() == first


def test_the_overlay_beside_kserve_leaves_its_crds_and_the_credentials_alone(
    control_plane: ControlPlane,
) -> None:
    objects = built(control_plane, "deploy/overlays/kserve")
    assert not of_kind(objects, "CustomResourceDefinition")
    namespaces = {item["metadata"]["name"] for item in of_kind(objects, "Namespace")}
    assert namespaces == {CONTROLLER_NAMESPACE, AGENTS_NAMESPACE}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_applies(control_plane: ControlPlane, example: str) -> None:
    control_plane.kubectl(*SERVER_SIDE, "-f", f"deploy/examples/{example}")


def test_kserves_own_example_is_among_them_word_for_word() -> None:
    text = (REPOSITORY / "deploy/examples/my-model-cache.yaml").read_text()
    assert yaml.safe_load(text) == {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelCache",
        "metadata": {"name": "my-model-cache"},
        "spec": {
            "modelSize": "10Gi",
            "nodeGroups": ["gpu-workers"],
            "sourceModelUri": "gs://my-bucket/my-model",
        },
    }


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_pod_security_admits_the_pods(
    control_plane: ControlPlane, installed: Objects, kind: str
) -> None:
    namespace, template = workload(installed, kind)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "trial", "namespace": namespace, **template["metadata"]},
        "spec": template["spec"],
    }
    control_plane.kubectl(
        "create", "--dry-run=server", "--validate=strict", "-f", "-", input=yaml.safe_dump(pod)
    )


def test_pod_security_admits_the_controllers_namespace_nothing_more(
    control_plane: ControlPlane, installed: Objects
) -> None:
    _, template = workload(installed, "DaemonSet")
    for namespace in (CONTROLLER_NAMESPACE, CREDENTIALS_NAMESPACE):
        account = {"serviceAccountName": "default", "automountServiceAccountToken": False}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "trial", "namespace": namespace},
            "spec": {**template["spec"], **account},
        }
        answer = control_plane.kubectl(
            "create", "--dry-run=server", "-f", "-", input=yaml.safe_dump(pod), check=False
        )
        assert 'violates PodSecurity "restricted' in answer


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_the_programs_run_without_privileges(installed: Objects, kind: str) -> None:
    _, template = workload(installed, kind)
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not {"runAsUser", "runAsNonRoot", "privileged"} & security.keys()


def test_agents_run_on_cache_nodes_and_write_to_the_folder_of_their_node(
    installed: Objects,
) -> None:
    _, template = workload(installed, "DaemonSet")
    spec = template["spec"]
    assert spec["nodeSelector"] == {"kserve/localmodel": "worker"}
    folders = [volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume]
    assert folders == ["/models"]
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["models"] == "/mnt/models"


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o700])
@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_the_kubelet_made_is_given_to_the_agent(
    installed: Objects, tmp_path: Path, mode: int, again: bool
) -> None:
    _, template = workload(installed, "DaemonSet")
    (container,) = template["spec"]["initContainers"]
    python, flag, script = container["command"]
    assert (python, flag) == ("python", "-c")
    capabilities = container["securityContext"]["capabilities"]
    assert capabilities["drop"] == ["ALL"]
    # As the kubelet leaves it: the folder, and a pod's mount point that came before the copy.
    disk = tmp_path / "disk"
    mount_point = disk / "models/0123456789abcdef"
    mount_point.mkdir(parents=True)
    # Nobody but root has folders of root's, or could give them away.
    root = os.geteuid() == 0
    agent = 1000 if root else os.geteuid()
    if again:
        # The pod before found the outer folder alone.
        os.chown(disk, agent, -1)
    for folder in (disk / "models", disk):
        folder.chmod(mode)
    bounds = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities["add"])])
    command = [sys.executable, "-c", script.replace("/mnt/models", str(disk))]
    limited = ["setpriv", f"--bounding-set={bounds}", "--no-new-privs", "--"] if root else []
    subprocess.run([*limited, *command], check=True, timeout=30)
    assert disk.stat().st_uid == agent
    assert (disk / "models").stat().st_uid == agent
    assert mount_point.stat().st_uid == os.geteuid()


def test_no_rule_of_ours_says_everything_and_secrets_are_read_in_one_namespace_by_name(
    installed: Objects,
) -> None:
    readers = []
    for role in of_kind(installed, "Role", "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            if "secrets" in rule["resources"]:
                readers.append(
                    (role["metadata"]["name"], role["metadata"].get("namespace"), rule["verbs"])
                )
    assert sorted(readers, key=str) == [
        ("localmodel-agent", CREDENTIALS_NAMESPACE, ["get"]),
        ("localmodel-credentials-reader", None, ["get"]),
    ]
    bound = [
        item["roleRef"]["name"] for item in of_kind(installed, "RoleBinding", "ClusterRoleBinding")
    ]
    assert "localmodel-credentials-reader" not in bound


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_nothing_but_the_health_port_is_open_to_the_network(installed: Objects, kind: str) -> None:
    namespace, template = workload(installed, kind)
    (policy,) = [
        item
        for item in of_kind(installed, "NetworkPolicy")
        if item["metadata"]["namespace"] == namespace
    ]
    assert (
        policy["spec"]["podSelector"]["matchLabels"].items()
        <= template["metadata"]["labels"].items()
    )
    assert policy["spec"]["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    (container,) = template["spec"]["containers"]
    assert [port["name"] for port in container["ports"]] == ["http"]


def test_the_controller_reaches_the_ports_that_api_servers_listen_on(installed: Objects) -> None:
    (policy,) = [
        item["spec"] for item in of_kind(installed, "NetworkPolicy") if "egress" in item["spec"]
    ]
    (rule,) = policy["egress"]
    ports = {(port["port"], port["protocol"]) for port in rule["ports"]}
    api = {(port, "TCP") for port in (443, 6443, 8443, 16443)}
    assert ports == {*api, (53, "UDP"), (53, "TCP")}


def test_accelerators_taints_keep_no_agent_away(installed: Objects) -> None:
    _, template = workload(installed, "DaemonSet")
    tolerated = {item["key"] for item in template["spec"]["tolerations"]}
    assert tolerated == {
        "nvidia.com/gpu",
        "amd.com/gpu",
        "google.com/tpu",
        "aws.amazon.com/neuron",
        "habana.ai/gaudi",
        "gpu.intel.com/i915",
    }


def test_one_controller_may_go_at_a_time_and_another_waits(installed: Objects) -> None:
    (deployment,) = of_kind(installed, "Deployment")
    assert deployment["spec"]["replicas"] == 2
    (budget,) = of_kind(installed, "PodDisruptionBudget")
    assert budget["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_agents_are_replaced_a_few_at_a_time(installed: Objects) -> None:
    (agents,) = of_kind(installed, "DaemonSet")
    assert agents["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": "10%"}


@pytest.mark.parametrize("kind", ["Deployment", "DaemonSet"])
def test_programs_are_asked_how_they_are_and_have_time_to_end(
    installed: Objects, kind: str
) -> None:
    _, template = workload(installed, kind)
    spec = template["spec"]
    (container,) = spec["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("readiness", "liveness")}
    assert probes == {
        "readiness": {"path": "/readyz", "port": "http"},
        "liveness": {"path": "/healthz", "port": "http"},
    }
    assert spec["terminationGracePeriodSeconds"] == 30
    # A cache may be late, its node must work: no class of the system's.
    assert "priorityClassName" not in spec
    assert container["resources"].keys() == {"requests", "limits"}


def test_with_selinux_the_component_lets_the_agent_write(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "deploy").symlink_to(REPOSITORY / "deploy")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(
        "resources: [../deploy/overlays/default]\ncomponents: [../deploy/selinux]\n"
    )
    objects = built(control_plane, str(mine))
    _, template = workload(objects, "DaemonSet")
    security = template["spec"]["securityContext"]
    assert security["seLinuxOptions"] == {"type": "spc_t"}
    assert security["runAsUser"] == 1000
    control_plane.kubectl(
        *SERVER_SIDE, "--dry-run=server", "--force-conflicts", "-f", "-",
        input=yaml.safe_dump_all(objects),
    )  # fmt: skip


def test_it_applies_as_people_type_it(control_plane: ControlPlane) -> None:
    """Without --server-side the whole object goes into an annotation, which may hold 256 KiB."""
    control_plane.kubectl("apply", "--dry-run=server", "-k", "deploy")
    for item in built(control_plane, "deploy"):
        assert len(json.dumps(item)) < 256 * 1024, item["metadata"]["name"]
