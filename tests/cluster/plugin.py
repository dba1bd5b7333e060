"""`kubectl localmodel` as somebody with few rights runs it: through the real kubectl, which finds the plugin on PATH."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import binaries
from tests.support.cluster import REPOSITORY

_SECONDS = 90
_PROGRAMS = {
    "kubectl-localmodel": "from controller.cli import main; main()",
    "kubectl_complete-localmodel": "from controller.cli import complete; complete()",
}


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        return [line.split() for line in self.out.splitlines()]


class Plugin:
    """folder: for the two console scripts, as an installation makes them."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        for name, code in _PROGRAMS.items():
            script = folder / name
            script.write_text(f"#!{sys.executable}\n{code}\n")
            script.chmod(0o755)
        kubectl = binaries.find(["kubectl"])["kubectl"]
        self._kubectl = str(kubectl)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KUBE")}
        self._environment = {
            **kept,
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "KUBECONFIG": str(kubeconfig),
        }

    def __call__(self, *arguments: str, given: str = "", plain: bool = False) -> Ended:
        """`kubectl localmodel …`, or `kubectl …` when `plain`."""
        done = subprocess.run(
            [self._kubectl, *(() if plain else ("localmodel",)), *arguments],
            env=self._environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    def data(self, *arguments: str) -> dict[str, Any]:
        ended = self(*arguments, "-o", "json")
        assert ended.code == 0, ended.err
        found: dict[str, Any] = json.loads(ended.out)
        return found

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self._kubectl, "localmodel", *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
