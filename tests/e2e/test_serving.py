"""What a user does: caches of three kinds of sources, and pods that read them through the claims."""

import json
from collections.abc import Iterator

import pytest

from tests.cluster import kserve
from tests.e2e import pods
from tests.e2e.models import Model
from tests.e2e.site import NODES, Site
from tests.support.cluster import REPOSITORY
from tests.support.servers.hub import TOKEN

pytestmark = pytest.mark.timeout(300)
TEAMS = ("team-a", "team-b", "team-c")


@pytest.fixture(scope="module", autouse=True)
def services(site: Site) -> Iterator[None]:
    """Namespaces of teams, and KServe's kind of services, which make the controller provide claims."""
    kserve.install(site.control_plane, kserve.INFERENCE)
    for namespace in TEAMS:
        site.kubectl("create", "namespace", namespace)
    yield
    for namespace in TEAMS:
        site.kubectl("delete", "namespace", namespace, "--wait=false")
    kserve.uninstall(site.control_plane)


def test_pods_of_two_namespaces_run_a_model_from_s3(site: Site, onnx: Model) -> None:
    site.add_cache("magika", onnx.uri)
    site.wait_ready("magika")
    for node in NODES:
        assert site.served(node, onnx.uri) == onnx.digests
    for namespace in TEAMS[:2]:
        site.control_plane.apply(kserve.service("typist", namespace, "magika"))
        pod = pods.reader("typist", namespace, "magika-gpu-workers", onnx.uri, pods.INFERENCE)
        said = json.loads(pods.run(site, pod).splitlines()[-1])
        assert said["outputs"][0][0] == 1
        assert said["refused"] == "Read-only file system"
    used = {item["namespace"] for item in site.status("magika")["inferenceServices"]}
    assert used == set(TEAMS[:2])


def test_hub_and_web_sources_reach_every_node(site: Site, tiny: Model, plain: Model) -> None:
    site.add_cache("tiny", tiny.uri)
    site.add_cache("plain", plain.uri)
    for name, model in (("tiny", tiny), ("plain", plain)):
        site.wait_ready(name)
        for node in NODES:
            assert site.served(node, model.uri) == model.digests


def test_a_namespace_cache_serves_its_own_namespace(site: Site, tiny: Model) -> None:
    team = TEAMS[2]
    site.add_cache("own", tiny.uri, namespace=team)
    site.wait_ready("own", namespace=team)
    site.control_plane.apply(kserve.service("writer", team, "own", own=True))
    code = "import os; print(sorted(os.listdir('/mnt/models')))"
    pod = pods.reader("writer", team, "own-gpu-workers", tiny.uri, code)
    assert pods.run(site, pod).strip() == str(sorted(tiny.digests))


def test_a_reader_whose_fs_group_the_kubelet_gives_the_files_to_disturbs_nothing(
    site: Site, onnx: Model
) -> None:
    team = TEAMS[0]
    site.add_cache("grouped", onnx.uri)
    site.wait_ready("grouped")
    site.control_plane.apply(kserve.service("grouped", team, "grouped"))
    code = "import os; print(os.getgroups(), os.stat('/mnt/models/model.onnx').st_gid)"
    pod = pods.reader("grouped", team, "grouped-gpu-workers", onnx.uri, code)
    pod["spec"]["securityContext"] = {"fsGroup": 4712}
    assert pods.run(site, pod).strip().endswith("4712")
    site.add_cache("after", "s3://models/magika/", group="gpu-workers")
    site.wait_ready("after")
    site.delete_cache("after")
    site.wait_ready("grouped")
    for node in NODES:
        assert site.served(node, onnx.uri) == onnx.digests


def test_bytes_that_others_brought_are_not_for_those_whom_the_source_refuses(
    site: Site, onnx: Model
) -> None:
    team = TEAMS[2]
    site.add_cache("rich", onnx.uri)
    site.wait_ready("rich")
    site.control_plane.apply(kserve.service("beggar", team, "poor", own=True))
    site.add_cache("poor", onnx.uri, namespace=team, storage={"key": "nobody"})
    for kind in ("Stalled", "Servable"):
        site.wait(
            lambda kind=kind: (  # type: ignore[misc]
                site.condition("poor", kind, namespace=team).get("reason") == "AccessDenied"
            ),
            f"poor {kind}",
        )
    assert site.control_plane.get("pvc", "poor-gpu-workers", namespace=team) is None


def test_a_pod_that_came_before_its_model_does_not_keep_it_away(site: Site) -> None:
    """The kubelet makes an empty folder in its place, as root."""
    team, uri = TEAMS[0], "s3://models/late"
    site.add_cache("late", uri)
    site.control_plane.apply(kserve.service("early", team, "late"))
    site.wait(
        lambda: site.control_plane.get("pvc", "late-gpu-workers", namespace=team) is not None,
        "a claim",
    )
    code = "import os; print(os.listdir('/mnt/models'))"
    assert pods.run(site, pods.reader("early", team, "late-gpu-workers", uri, code)).strip() == "[]"
    site.s3.put("models", "late/weights.bin", b"w" * 1000)
    site.kubectl("annotate", "localmodelcache", "late", "localmodel.kserve.io/retry=now")
    site.wait_ready("late")
    for node in NODES:
        assert set(site.served(node, uri)) == {"weights.bin"}


def test_a_namespace_keeps_credentials_of_its_own(site: Site) -> None:
    site.hub.add("our-team/private-model", {"weights.bin": b"w" * 1000}, access="gated")
    example = (REPOSITORY / "deploy/examples/team-credentials.yaml").read_text()
    site.set_up(namespace_credentials="own")
    try:
        site.kubectl("apply", "-f", "-", input=example.replace("replace-me", TOKEN))
        site.wait_ready("team-private-model", namespace="our-team")
        # Without the binding nothing that it names is read.
        site.kubectl("delete", "rolebinding", "localmodel-credentials-reader", "-n", "our-team")
        site.add_cache(
            "unbound",
            "hf://our-team/private-model",
            namespace="our-team",
            serviceAccountName="team-models",
        )
        site.wait(
            lambda: (
                site.condition("unbound", "Stalled", namespace="our-team").get("status") == "True"
            ),
            "unbound stalled",
        )
        said = site.condition("unbound", namespace="our-team")
        assert "localmodel-credentials-reader" in said["message"], said
    finally:
        site.kubectl("delete", "namespace", "our-team", "--timeout=50s")
        site.set_up()
