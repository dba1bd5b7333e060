"""A shell in which the documentation's commands run, and what they leave on the shared control plane."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import binaries
from tests.support.cluster import REPOSITORY
from tests.support.controlplane import ControlPlane

_SECONDS = 90
Shell = Callable[..., str]


@pytest.fixture
def shell(folder: Path) -> Shell:
    """Runs a script in an empty folder, our programs and kubectl on its PATH; AssertionError with its output when it fails."""

    def run(script: str, *, cwd: Path = folder, kubeconfig: Path | None = None) -> str:
        kubectl = binaries.find(["kubectl"])["kubectl"]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KUBE", "LOCALMODEL_"))}
        path = f"{REPOSITORY / '.venv/bin'}{os.pathsep}{kubectl.parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=cwd,
            env={**kept, "PATH": path, "KUBECONFIG": str(kubeconfig or folder / "none")},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def clean(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    yield control_plane
    control_plane.clear()
