"""Health as others judge it: Helm waits by the library kstatus, as Flux does."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.scene import Scene
from tests.support import binaries
from tests.support.fleet import FleetThread

_SECONDS = 60

Install = Callable[[], subprocess.Popen[str]]


@pytest.fixture(scope="module")
def helm() -> Path:
    return binaries.find(["helm"])["helm"]


@pytest.fixture
def install(scene: Scene, helm: Path, folder: Path) -> Install:
    """Begins to install a chart with the cache `m` alone, and to wait for it."""
    cache = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelCache",
        "metadata": {"name": scene.name("m")},
        "spec": {
            "sourceModelUri": f"s3://models/{scene.name('m')}",
            "modelSize": "1Gi",
            "nodeGroups": [scene.name("gpu")],
        },
    }
    chart = folder / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: models, version: 1.0.0}")
    (chart / "templates/cache.yaml").write_text(json.dumps(cache))

    def begin() -> subprocess.Popen[str]:
        options = ("--wait", f"--timeout={_SECONDS}s")
        kubeconfig = {"KUBECONFIG": str(scene.control_plane.admin_kubeconfig), "HOME": str(folder)}
        return subprocess.Popen(
            [str(helm), "install", scene.name("r"), str(chart), *options],
            env={**os.environ, **kubeconfig},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return begin


def test_it_waits_until_all_copies_are_there(
    scene: Scene, fleet: FleetThread, install: Install
) -> None:
    loading = {"state": "ModelDownloading", "reason": "Downloading", "bytesDone": 1}
    fleet.change(outcomes={scene.name("m"): loading})
    waiting = install()
    scene.wait(lambda: scene.condition()["reason"] == "Progressing", "downloads")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.communicate(timeout=3)
    fleet.change(outcomes={})
    said, _ = waiting.communicate(timeout=_SECONDS)
    assert waiting.returncode == 0, said
    assert scene.ready()
    scene.delete("localmodelcache", "m")


def test_it_gives_up_what_is_stalled(scene: Scene, fleet: FleetThread, install: Install) -> None:
    denied = {"state": "ModelDownloadError", "reason": "AccessDenied", "bytesDone": 0}
    fleet.change(outcomes={scene.name("m"): denied})
    waiting = install()
    said, _ = waiting.communicate(timeout=_SECONDS)
    assert waiting.returncode != 0
    assert "status: Failed, message: 0 of 1 copies available" in said
    assert "refuses access" in said
    scene.delete("localmodelcache", "m")
