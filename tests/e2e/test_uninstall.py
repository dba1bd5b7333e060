"""The end, and a new beginning, so it comes last: what an uninstallation leaves, and how KServe's own agent is replaced."""

import os
import re
import shlex
import subprocess

import pytest

from tests.cluster import kserve
from tests.e2e import legacy
from tests.e2e.models import Model, magika
from tests.e2e.site import NODES, Site
from tests.support import binaries
from tests.support.cluster import REPOSITORY

pytestmark = pytest.mark.timeout(400)
_SECONDS = 240
TEAM = "leaving"
PART = ("-l", "app.kubernetes.io/part-of=localmodel")
CRD = "customresourcedefinition.apiextensions.k8s.io"


def attempt(site: Site, *command: str) -> "subprocess.CompletedProcess[str]":
    """A person's command in the repository's folder, kubectl and helm pointing at the cluster."""
    folders = [str(path.parent) for path in binaries.find(["kubectl", "helm"]).values()]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env={
            **os.environ,
            "KUBECONFIG": str(site.control_plane.admin_kubeconfig),
            "PATH": ":".join([*folders, os.environ["PATH"]]),
        },
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


def run(site: Site, *command: str) -> str:
    done = attempt(site, *command)
    assert done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def ours(site: Site) -> list[str]:
    """Objects that belong to the installation, by kind and name."""
    kinds = "crd,namespace,clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding"
    lines = site.kubectl("get", kinds, "-o", "name").splitlines()
    found = [line for line in lines if "localmodel" in line]
    return [*found, *site.kubectl("get", "pv", "-o", "name").splitlines()]


def left_behind(site: Site, cache: str) -> None:
    """A namespace cache's volume and claim, which stay when their service goes."""
    kserve.install(site.control_plane, kserve.INFERENCE)
    site.control_plane.apply(kserve.service("writer", TEAM, cache, own=True))
    claim = f"{cache}-gpu-workers"
    site.wait(lambda: site.control_plane.get("pvc", claim, namespace=TEAM) is not None, claim)
    refused = attempt(site, "deploy/uninstall.sh")
    assert (refused.returncode, "KServe is installed here" in refused.stderr) == (1, True), refused
    kserve.uninstall(site.control_plane)
    site.wait(lambda: not site.status(cache, namespace=TEAM).get("inferenceServices"), "no service")
    assert site.control_plane.get("pvc", claim, namespace=TEAM) is not None


def test_an_uninstallation_that_keeps_the_models_is_taken_up_by_the_next(
    site: Site, onnx: Model, tiny: Model
) -> None:
    site.add_cache("kept", onnx.uri)
    site.kubectl("create", "namespace", TEAM)
    site.add_cache("kept-too", tiny.uri, namespace=TEAM)
    site.wait_ready("kept")
    site.wait_ready("kept-too", namespace=TEAM)
    left_behind(site, "kept-too")
    run(site, "deploy/uninstall.sh", "--keep-models")
    assert ours(site) == []
    site.wait(lambda: not site.kubectl("get", "pvc", "-n", TEAM, "-o", "name"), "no claim")
    for model in (onnx, tiny):
        for node in NODES:
            assert site.served(node, model.uri) == model.digests
    site.kubectl("apply", "-k", "deploy")
    site.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", *PART)
    # The caches first: nodes that belong to a group are told at once what to hold, and so what not.
    site.set_up(removal_grace_seconds=60)
    site.add_cache("kept", onnx.uri)
    site.add_group("gpu-workers", accelerator="gpu")
    site.wait_ready("kept")
    for node in NODES:
        assert site.bytes_moved(node) == 0


def test_an_uninstallation_empties_the_disks_and_leaves_nothing_stuck(
    site: Site, onnx: Model, tiny: Model
) -> None:
    site.add_cache("gone", tiny.uri)
    site.wait_ready("gone")
    site.add_cache("gone-too", onnx.uri, namespace=TEAM)
    site.wait_ready("gone-too", namespace=TEAM)
    left_behind(site, "gone-too")
    run(site, "deploy/uninstall.sh")
    assert ours(site) == []
    site.kubectl("delete", "namespace", TEAM, "--timeout=50s")
    for node in NODES:
        for model in (onnx, tiny):
            assert site.served(node, model.uri) == {}


def test_a_release_of_helm_is_uninstalled_although_a_node_is_away(site: Site, tiny: Model) -> None:
    release = ("localmodel", "--namespace", "kube-system")
    run(site, "helm", "install", "localmodel", "deploy/chart", *release[1:])
    site.set_up(agent_silence_seconds=15, deletion_silence_seconds=20)
    site.add_group("gpu-workers", accelerator="gpu")
    site.add_cache("released", tiny.uri)
    site.wait_ready("released")
    wrong = attempt(site, "deploy/uninstall.sh", "--helm", "another")
    assert wrong.returncode != 0
    site.wait_ready("released")
    node = site.cluster.nodes[NODES[1]]
    node.power_off()
    try:
        site.cluster.wait_node(NODES[1], ready=False)
        said = run(site, "deploy/uninstall.sh", "--helm", *release)
    finally:
        node.start()
    site.cluster.wait_node(NODES[1])
    assert f"node {NODES[1]} is not Ready: its files stay" in said
    assert NODES[0] not in said.split("checking", 1)[0]
    assert site.served(NODES[0], tiny.uri) == {}
    assert site.served(NODES[1], tiny.uri) == tiny.digests
    # Without --crds they stay, and what users wrote of them; nothing of the release does.
    assert {name.partition("/")[0] for name in ours(site)} == {CRD}
    assert site.control_plane.get("localmodelnodegroup", "gpu-workers") is not None
    site.kubectl("delete", "-k", "deploy/crds", "--timeout=50s")


def test_kserves_own_agent_is_replaced(site: Site, onnx: Model) -> None:
    legacy.install(site)
    site.add_group("gpu-workers", accelerator="gpu")
    legacy.add_cache(site, "migrated", onnx.uri, dict.fromkeys(NODES, magika()))
    site.control_plane.apply(legacy.webhook())
    # As the overlay's first lines tell a person to.
    text = (REPOSITORY / "deploy/overlays/kserve/kustomization.yaml").read_text()
    for command in re.findall(r"^#   (kubectl .*)$", text, re.MULTILINE):
        run(site, "bash", "-c", command)
    site.set_up()
    site.wait_ready("migrated")
    for node in NODES:
        assert site.served(node, onnx.uri) == onnx.digests
        assert site.bytes_moved(node) == 0
    site.delete_cache("migrated")
    run(site, "deploy/uninstall.sh", "kserve")
    left = site.kubectl("get", "crd,namespace", "-o", "name")
    assert "localmodelcaches.serving.kserve.io" in left
    assert "kserve-localmodel-jobs" in left
    assert "localmodel-system" not in left
