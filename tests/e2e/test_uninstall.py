"""The end, and a new beginning, so it comes last: what an uninstallation leaves, and how KServe's own agent is replaced."""

import os
import re
import shlex
import subprocess

import pytest

from tests.e2e import legacy
from tests.e2e.models import Model, magika
from tests.e2e.site import NODES, OVERLAY, Site
from tests.support import binaries
from tests.support.cluster import REPOSITORY

pytestmark = pytest.mark.timeout(400)
_SECONDS = 240
TEAM = "leaving"


def run(site: Site, *command: str) -> str:
    """A person's command in the repository's folder, kubectl pointing at the cluster."""
    kubectl = binaries.find(["kubectl"])["kubectl"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={
            **os.environ,
            "KUBECONFIG": str(site.control_plane.admin_kubeconfig),
            "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def ours(site: Site) -> list[str]:
    """Objects that belong to the installation, by kind and name."""
    kinds = "crd,namespace,clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding"
    lines = site.kubectl("get", kinds, "-o", "name").splitlines()
    found = [line for line in lines if "localmodel" in line]
    return [*found, *site.kubectl("get", "pv", "-o", "name").splitlines()]


def test_an_uninstallation_that_keeps_the_models_is_taken_up_by_the_next(
    site: Site, onnx: Model, tiny: Model
) -> None:
    site.add_cache("kept", onnx.uri)
    site.kubectl("create", "namespace", TEAM)
    site.add_cache("kept-too", tiny.uri, namespace=TEAM)
    site.wait_ready("kept")
    site.wait_ready("kept-too", namespace=TEAM)
    run(site, "deploy/uninstall.sh", "--keep-models")
    assert ours(site) == []
    for model in (onnx, tiny):
        for node in NODES:
            assert site.served(node, model.uri) == model.digests
    # The caches first: nodes that belong to a group are told at once what to hold, and so what not.
    site.control_plane.apply_deploy(OVERLAY)
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
    run(site, "deploy/uninstall.sh")
    assert ours(site) == []
    site.kubectl("delete", "namespace", TEAM, "--timeout=50s")
    for node in NODES:
        for model in (onnx, tiny):
            assert site.served(node, model.uri) == {}


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
