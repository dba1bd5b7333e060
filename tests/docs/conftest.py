"""A shell in which the documentation's commands run, and what stands behind them."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.docs.scene import Scene
from tests.support import binaries
from tests.support.cluster import REPOSITORY
from tests.support.controlplane import ControlPlane

_SECONDS = 90
Shell = Callable[..., str]


@pytest.fixture
def shell(folder: Path) -> Shell:
    """Runs a script in a folder of its own, our programs and kubectl on its PATH; AssertionError with its output when it fails."""

    def run(script: str, environment: Mapping[str, str]) -> str:
        kubectl = binaries.find(["kubectl"])["kubectl"]
        strange = ("KUBE", "LOCALMODEL_", "AWS_", "HF_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(strange)}
        path = f"{REPOSITORY / '.venv/bin'}{os.pathsep}{kubectl.parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env={**kept, "PATH": path, "HOME": str(folder), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="module")
def scene(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Scene(control_plane, tmp_path_factory.mktemp("scene")) as made:
        yield made
