"""Controller and agents together, from a user's manifest to files on nodes and back to empty disks."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.installation import Installation
from tests.cluster.worklist import metric
from tests.support.cluster import AGENTS_NAMESPACE
from tests.support.controlplane import ControlPlane
from tests.support.servers.gcs import GcsServer
from tests.support.servers.web import WebServer

MIB = 1 << 20
MODEL = {
    "config.json": b'{"architectures": ["Llama"]}',
    "weights/model-00001.safetensors": random.Random(1).randbytes(3 * MIB),
    "weights/ü 2.safetensors": random.Random(2).randbytes(700_001),
    "merges.txt": b"",
}
LARGE = random.Random(3).randbytes(24 * MIB)
EXAMPLES = Path("deploy/examples")
# A large model then takes three seconds: long enough to kill somebody half-way.
SLOW = 8 * MIB


@pytest.fixture(scope="module")
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        server.put("a.bin", MODEL["weights/ü 2.safetensors"])
        server.put("large.bin", LARGE)
        yield server


@pytest.fixture(scope="module")
def gcs() -> Iterator[GcsServer]:
    with GcsServer() as server:
        server.make_bucket("my-bucket")
        for name, content in MODEL.items():
            server.put("my-bucket", f"my-model/{name}", content)
        server.put("my-bucket", "my-model-2/other.bin", b"not ours")
        yield server


@pytest.fixture(scope="module")
def site(
    control_plane: ControlPlane, gcs: GcsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    with Installation(control_plane, tmp_path_factory.mktemp("site")) as site:
        for node in ("node-a", "node-b"):
            site.add_node(
                node,
                {"accelerator": "gpu", "pool": "none"},
                environment={"STORAGE_EMULATOR_HOST": gcs.endpoint},
                max_bytes_per_second=SLOW,
            )
        yield site


@pytest.fixture
def pools(site: Installation) -> Iterator[Installation]:
    """Groups `red` and `blue` by the label `pool`; node-a is red, node-b blue."""
    for pool in ("red", "blue"):
        site.add_group(pool, pool=pool)
    site.label("node-a", pool="red")
    site.label("node-b", pool="blue")
    yield site
    for kind in ("localmodelcaches", "localmodelnodegroups"):
        site.control_plane.kubectl("delete", kind, "--all", "--timeout=30s")
    for node in ("node-a", "node-b"):
        site.wait(lambda node=node: site.left_on(node) == [], f"an empty disk on {node}")  # type: ignore[misc]


def test_the_example_comes_to_its_nodes_and_goes_again(site: Installation) -> None:
    uri = "gs://my-bucket/my-model"
    kubectl = site.control_plane.kubectl
    for example in ("gpu-workers.yaml", "my-model-cache.yaml"):
        kubectl("apply", "-f", str(EXAMPLES / example))
    site.wait_ready("my-model-cache", "node-a", "node-b")

    status = site.status("my-model-cache")
    copies = {"available": 2, "total": 2, "failed": 0, "downloading": 0, "pending": 0}
    assert copies.items() <= status["copies"].items()
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert conditions == {"Ready": "True", "Reconciling": "False", "Stalled": "False"}
    for node in ("node-a", "node-b"):
        assert site.files(node, uri) == MODEL
        reported = json.loads(kubectl("get", "localmodelnode", node, "-o", "json"))["status"]
        assert reported["modelStatus"] == {"my-model-cache": "ModelDownloaded"}
        assert reported["models"][0]["verifiedBy"] == "crc32c"

    kubectl("delete", "-f", str(EXAMPLES / "my-model-cache.yaml"), "--timeout=30s")
    # Deletion is confirmed by the nodes: when it is over nothing is left.
    for node in ("node-a", "node-b"):
        assert site.left_on(node) == []
    kubectl("delete", "-f", str(EXAMPLES / "gpu-workers.yaml"), "--timeout=30s")


def test_a_namespace_cache_takes_the_same_path(pools: Installation, web: WebServer) -> None:
    pools.add_cache("team-model", f"{web.url}/a.bin", "red", "blue", namespace="default")
    pools.wait_ready("team-model", "node-a", "node-b", namespace="default")
    work = pools.control_plane.get("localmodelnode", "node-a") or {}
    assert work["status"]["modelStatus"] == {"default/team-model": "ModelDownloaded"}
    assert [*pools.files("node-a", f"{web.url}/a.bin")] == ["a.bin"]
    pools.delete_cache("team-model", namespace="default")
    assert pools.left_on("node-a") == pools.left_on("node-b") == []


def test_a_copy_follows_the_labels_of_nodes(pools: Installation, web: WebServer) -> None:
    uri = f"{web.url}/a.bin"
    pools.add_cache("follows", uri, "red")
    pools.wait_ready("follows", "node-a")
    pools.label("node-b", pool="red")
    pools.wait_ready("follows", "node-a", "node-b")
    pools.label("node-a", pool="none")
    pools.wait_ready("follows", "node-b")
    pools.wait(lambda: pools.left_on("node-a") == [], "node-a empties its disk")
    assert pools.files("node-b", uri)


def test_a_copy_follows_edits_of_its_cache_and_of_the_group(
    pools: Installation, web: WebServer
) -> None:
    uri = f"{web.url}/a.bin"
    pools.add_cache("edited", uri, "red")
    pools.wait_ready("edited", "node-a")
    pools.add_cache("edited", uri, "blue")
    pools.wait_ready("edited", "node-b")
    pools.wait(lambda: pools.left_on("node-a") == [], "node-a empties its disk")
    pools.add_group("blue", pool="red")
    pools.wait_ready("edited", "node-a")
    pools.wait(lambda: pools.left_on("node-b") == [], "node-b empties its disk")


def test_a_node_that_joins_is_served_and_one_that_leaves_is_forgotten(
    pools: Installation, web: WebServer
) -> None:
    uri = f"{web.url}/a.bin"
    pools.add_cache("joins", uri, "red")
    pools.wait_ready("joins", "node-a")
    joined = pools.add_node("node-c", {"pool": "red"})
    pools.wait_ready("joins", "node-a", "node-c")
    joined.kill()
    pools.control_plane.remove_node("node-c")
    pools.wait_ready("joins", "node-a")
    pools.wait(
        lambda: pools.control_plane.get("localmodelnode", "node-c") is None,
        "its work list goes with it",
    )
    # What is on its disk keeps nobody from deleting the cache.
    pools.delete_cache("joins")


def test_two_caches_of_one_source_share_its_bytes(pools: Installation, web: WebServer) -> None:
    uri = f"{web.url}/a.bin"
    for name in ("first", "second"):
        pools.add_cache(name, uri, "red")
    for name in ("first", "second"):
        pools.wait_ready(name, "node-a")
    assert sum(name.startswith("models/") for name in pools.left_on("node-a")) == 1
    pools.delete_cache("first")
    assert pools.files("node-a", uri)
    assert pools.states("second") == {"node-a": "NodeDownloaded"}
    pools.delete_cache("second")
    assert pools.left_on("node-a") == []


def test_a_controller_killed_half_way_goes_on_where_it_was(
    pools: Installation, web: WebServer
) -> None:
    pools.add_cache("goes-on", f"{web.url}/large.bin", "red", "blue")
    pools.wait(lambda: _moving(pools, "node-a") and _moving(pools, "node-b"), "bytes on both nodes")
    pools.controller.kill()
    # The agents need no controller to finish what they were told.
    pools.wait(lambda: _downloaded(pools, "node-a"), "node-a finishes")
    assert pools.states("goes-on") != {"node-a": "NodeDownloaded", "node-b": "NodeDownloaded"}
    pools.controller.start_ready()
    pools.wait_ready("goes-on", "node-a", "node-b")

    pools.controller.stop()
    pools.delete_cache("goes-on", wait=False)
    pools.controller.start_ready()
    pools.wait(lambda: pools.control_plane.get("localmodelcache", "goes-on") is None, "it is gone")
    assert pools.left_on("node-a") == pools.left_on("node-b") == []


def test_an_agent_killed_half_way_goes_on_from_what_it_has(
    pools: Installation, web: WebServer
) -> None:
    uri = f"{web.url}/large.bin"
    agent = pools.agents["node-a"]
    pools.add_cache("resumes", uri, "red")
    pools.wait(lambda: _moving(pools, "node-a"), "bytes on node-a")
    pools.wait(lambda: _report(pools, "node-a").get("bytesDone", 0) > 8 * MIB, "a third of them")
    agent.kill()
    assert pools.states("resumes") == {"node-a": "NodeDownloading"}
    agent.start_ready()
    pools.wait_ready("resumes", "node-a")
    assert pools.files("node-a", uri) == {"large.bin": LARGE}
    assert metric(agent.get("/metrics")[1], "localmodel_agent_transferred_bytes_total") < len(LARGE)


def test_a_deletion_waits_for_the_agent_that_is_down(pools: Installation, web: WebServer) -> None:
    agent = pools.agents["node-a"]
    pools.add_cache("waits", f"{web.url}/a.bin", "red", "blue")
    pools.wait_ready("waits", "node-a", "node-b")
    agent.kill()
    pools.delete_cache("waits", wait=False)
    pools.wait(lambda: pools.left_on("node-b") == [], "node-b confirms")
    found = pools.control_plane.get("localmodelcache", "waits")
    assert found is not None, "gone although node-a has confirmed nothing"
    assert pools.left_on("node-a")
    agent.start_ready()
    pools.wait(lambda: pools.control_plane.get("localmodelcache", "waits") is None, "it is gone")
    assert pools.left_on("node-a") == []


def test_a_source_nobody_serves_is_stalled_with_a_reason_until_it_is_deleted(
    pools: Installation,
) -> None:
    pools.add_cache("floppy", "floppy://a/b", "red")

    def stalled() -> bool:
        conditions = pools.status("floppy").get("conditions", ())
        return any(
            c["type"] == "Stalled" and (c["status"], c["reason"]) == ("True", "UnsupportedScheme")
            for c in conditions
        )

    pools.wait(stalled, "a reason")
    assert pools.states("floppy") == {"node-a": "NodeDownloadError"}
    pools.delete_cache("floppy")


def _report(site: Installation, node: str) -> dict[str, Any]:
    found = site.control_plane.get("localmodelnode", node) or {}
    (report,) = found.get("status", {}).get("models") or [{}]
    return dict(report)


def _moving(site: Installation, node: str) -> bool:
    return bool(_report(site, node).get("bytesDone", 0) > 0)


def _downloaded(site: Installation, node: str) -> bool:
    return bool(_report(site, node).get("state") == "ModelDownloaded")


def test_a_node_that_leaves_the_cluster_takes_its_sign_of_life_along(
    pools: Installation, web: WebServer
) -> None:
    pools.add_node("node-c", {"pool": "red"})
    pools.add_cache("m", f"{web.url}/a.bin", "red")
    pools.wait_ready("m", "node-a", "node-c")

    def lease() -> dict[str, Any] | None:
        return pools.control_plane.get("lease", "node-c", namespace=AGENTS_NAMESPACE)

    pools.wait(
        lambda: "ownerReferences" in (lease() or {}).get("metadata", {}), "it belongs to the node"
    )
    pools.control_plane.kubectl("delete", "node", "node-c")
    pools.agents["node-c"].stop()
    pools.wait(lambda: lease() is None, "the Lease is collected", seconds=60)
    pools.delete_cache("m")
