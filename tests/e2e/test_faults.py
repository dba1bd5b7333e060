"""What breaks while nodes fill: programs, nodes, disks, the control plane. Work goes on, and what was served stays served."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.models import Model
from tests.e2e.site import AGENT, CONTROLLER, NODES, SMALL, WORKER, Site
from tests.support.cluster import AGENTS_NAMESPACE, CONTROLLER_NAMESPACE

pytestmark = pytest.mark.timeout(400)
_SOME = 100 << 20


@pytest.fixture
def served(site: Site, onnx: Model) -> Iterator[Callable[[], bool]]:
    """A model that is ready on all nodes before anything breaks, and must stay so: `served()` looks."""
    site.add_cache("steady", onnx.uri)
    site.wait_ready("steady")

    def all_there() -> bool:
        for node in NODES:
            assert site.served(node, onnx.uri) == onnx.digests
        return True

    yield all_there
    all_there()


def fill(site: Site, name: str, model: Model) -> None:
    """A big model is on its way to both nodes, and has got some way."""
    site.add_cache(name, model.uri, size="512Mi")
    site.wait(
        lambda: all(site.bytes_done(node, name) > _SOME for node in NODES), f"{name} half-way"
    )


def filled(site: Site, name: str, model: Model) -> None:
    site.wait_ready(name)
    for node in NODES:
        assert site.served(node, model.uri) == model.digests
    site.delete_cache(name)


def leader(site: Site) -> str:
    lease = site.control_plane.get("lease", "localmodel-controller", namespace=CONTROLLER_NAMESPACE)
    return str(lease["spec"].get("holderIdentity", "")) if lease else ""


def test_a_rolling_update_goes_on_from_the_journals(
    site: Site, big: Model, served: Callable[[], bool]
) -> None:
    fill(site, "rolled", big)
    first = site.agent_pod(NODES[0])["metadata"]["name"]
    site.kubectl("rollout", "restart", "daemonset/localmodel-agent", "-n", AGENTS_NAMESPACE)
    site.wait(
        lambda: served() and site.agent_pod(NODES[0])["metadata"]["name"] != first, "a new agent"
    )
    site.wait_rollout("daemonset/localmodel-agent", AGENTS_NAMESPACE)
    site.wait_ready("rolled")
    size = site.bytes_done(NODES[0], "rolled")
    for node in NODES:
        assert site.bytes_moved(node) < size - _SOME // 2
    filled(site, "rolled", big)


@pytest.mark.usefixtures("served")
def test_a_node_that_lost_power_goes_on_when_it_is_back(site: Site, big: Model) -> None:
    fill(site, "powered", big)
    node = site.cluster.nodes[NODES[0]]
    node.power_off()
    # The other one is none the worse.
    site.wait(
        lambda: site.copies(NODES[1])["powered"]["state"] == "ModelDownloaded", "the other node"
    )
    node.start()
    site.cluster.wait_node(NODES[0])
    filled(site, "powered", big)


def kill_pods(site: Site, command: str, *nodes: str) -> None:
    for name in nodes:
        for pid in site.cluster.nodes[name].host_pids(command):
            os.kill(pid, signal.SIGKILL)


def kill_agent(site: Site) -> None:
    kill_pods(site, "localmodel-agent run", NODES[0])


def kill_controllers(site: Site) -> None:
    kill_pods(site, "localmodel-controller run", *site.cluster.nodes)


def kill_kubelet(site: Site) -> None:
    node = site.cluster.nodes[NODES[0]]
    node.kill("kubelet")
    node.start_kubelet()


def kill_containerd(site: Site) -> None:
    node = site.cluster.nodes[NODES[0]]
    node.kill("containerd")
    node.start_containerd()


def kill_api_server(site: Site) -> None:
    site.control_plane.apiserver.kill()
    site.control_plane.start()


def kill_etcd(site: Site) -> None:
    site.control_plane.etcd.kill()
    site.control_plane.start()


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    "kill",
    [kill_agent, kill_controllers, kill_kubelet, kill_containerd, kill_api_server, kill_etcd],
    ids=lambda kill: kill.__name__.removeprefix("kill_"),
)
def test_each_may_be_killed(site: Site, big: Model, kill: Callable[[Site], None]) -> None:
    fill(site, "filling", big)
    kill(site)
    site.wait_ready("filling")
    if kill is kill_agent:
        assert site.bytes_moved(NODES[0]) < site.bytes_done(NODES[0], "filling") - _SOME // 2
    filled(site, "filling", big)
    site.wait_installed()


@pytest.mark.usefixtures("served")
def test_every_program_may_be_killed(site: Site, big: Model) -> None:
    fill(site, "killed", big)
    node = site.cluster.nodes[NODES[0]]
    restarts = _restarts(site)
    kill_agent(site)
    kill_controllers(site)
    node.kill("kubelet")
    node.kill("containerd")
    node.start_containerd()
    node.start_kubelet()
    site.wait(lambda: _restarts(site) > restarts, "containers started again")
    site.wait_installed()
    filled(site, "killed", big)


@pytest.mark.usefixtures("served")
def test_the_api_server_and_its_controllers_may_be_killed(site: Site, big: Model) -> None:
    fill(site, "orphaned", big)
    control_plane = site.control_plane
    for process in (control_plane.apiserver, control_plane.manager, control_plane.etcd):
        process.kill()
    control_plane.start()
    filled(site, "orphaned", big)


def test_another_controller_leads_when_the_leader_goes(site: Site, tiny: Model) -> None:
    old = leader(site)
    (pod,) = [
        item["metadata"]["name"]
        for item in site.pods(CONTROLLER_NAMESPACE, CONTROLLER)
        if old.startswith(item["metadata"]["name"])
    ]
    site.kubectl("delete", "pod", pod, "-n", CONTROLLER_NAMESPACE, "--wait=false")
    site.wait(lambda: leader(site) not in ("", old), "another leader", seconds=30)
    site.add_cache("after-the-leader", tiny.uri)
    site.wait_ready("after-the-leader")
    site.delete_cache("after-the-leader")
    site.wait_installed()


def test_a_full_disk_is_named_and_heals(site: Site, onnx: Model, tiny: Model) -> None:
    node = site.cluster.nodes[SMALL]
    site.kubectl("label", "node", SMALL, "kserve/localmodel=worker")
    site.wait(
        lambda: (
            "agent" in (site.control_plane.get("localmodelnode", SMALL) or {}).get("status", {})
        ),
        "an agent",
    )
    # Somebody else's data.
    node.command("fallocate", "-l", "180M", "/models/ballast")
    site.s3.put("models", "wide/weights.bin", os.urandom(100 << 20))
    site.add_cache("narrow", "s3://models/wide", group="small", size="100Mi")
    full = ("NoSpace", "InsufficientStorage")
    site.wait(lambda: site.condition("narrow").get("reason") in full, "it says that it is full")
    said = site.condition("narrow")
    assert said["status"] == "False"
    assert SMALL in said["message"], said
    # The others do not mind.
    site.add_cache("elsewhere", tiny.uri)
    site.wait_ready("elsewhere")
    site.delete_cache("elsewhere")
    node.command("rm", "/models/ballast")
    site.wait_ready("narrow")
    site.delete_cache("narrow")
    site.kubectl("label", "node", SMALL, "kserve/localmodel-")


def test_a_node_joins_fills_and_leaves(site: Site, onnx: Model) -> None:
    site.add_cache("shared", onnx.uri)
    site.wait_ready("shared")
    node = site.cluster.add_node("node-d")
    # The folder is the root of a new disk: root's and closed, with a pod's mount point in it, until the agent's pod starts for the
    # first time.
    node.command("mkdir", "-m", "700", "/models/models")
    node.command("chmod", "700", "/models")
    site.kubectl("label", "node", "node-d", *(f"{key}={value}" for key, value in WORKER.items()))
    site.wait(lambda: site.served("node-d", onnx.uri) == onnx.digests, "the new node is filled")
    assert node.command("stat", "-c", "%u", "/models/models").strip() == "1000"
    site.wait(lambda: site.status("shared")["copies"]["available"] == 3, "three copies")
    drain = ("drain", "node-d", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=50s")
    site.kubectl(*drain)
    site.cluster.remove_node("node-d")
    site.wait(lambda: site.status("shared")["copies"]["total"] == 2, "two copies")
    site.wait_ready("shared")
    assert site.control_plane.get("localmodelnode", "node-d") is None
    site.delete_cache("shared")
    # Kubernetes collects the pods of a node that left a minute or so later; nobody can read their logs until then.
    site.wait(lambda: not _pods_of(site, "node-d"), "no pod of the gone node is left", seconds=180)


def _pods_of(site: Site, node: str) -> str:
    return site.kubectl("get", "pods", "-A", "-o", "name", f"--field-selector=spec.nodeName={node}")


def _restarts(site: Site) -> int:
    pods = site.pods(AGENTS_NAMESPACE, AGENT) + site.pods(CONTROLLER_NAMESPACE, CONTROLLER)
    return sum(
        container.get("restartCount", 0)
        for pod in pods
        for container in pod["status"].get("containerStatuses", [])
    )
