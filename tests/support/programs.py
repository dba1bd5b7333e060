"""The controller and the agents as processes of their own, each with its own ServiceAccount's token."""

import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster import AGENTS_NAMESPACE, CONTROLLER_NAMESPACE, Cluster
from tests.support.processes import Process, free_port

_READY_SECONDS = 60


class Program(Process):
    """A program of ours with a health port on loopback; settings go into its configuration file.

    Its environment has none of this machine's identities, proxies or settings: what a test wants, it gives.
    """

    def __init__(
        self,
        name: str,
        program: str,
        *,
        settings: Mapping[str, Any],
        kubeconfig: Path,
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        config = folder / f"{name}.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(
            yaml.safe_dump({**settings, "http_port": self.port, "http_host": "127.0.0.1"})
        )
        command = [_installed(program), "run", f"--config={config}", f"--kubeconfig={kubeconfig}"]
        super().__init__(
            name,
            command,
            log=folder / f"{name}.log",
            environment={**_nobodys(os.environ), "HOME": str(folder), **(environment or {})},
        )

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a GET on the health port; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(  # our own server
                f"http://127.0.0.1:{self.port}{path}", timeout=5
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()
        except OSError:
            return 0, ""

    def state(self) -> dict[str, Any]:
        """What /debug/state shows."""
        state: dict[str, Any] = json.loads(self.get("/debug/state")[1])
        return state

    @property
    def ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def start_ready(self) -> None:
        """Start it, the first time or again, and wait until it says that it is ready."""
        self.start()
        self.wait_ready(lambda: self.ready, seconds=_READY_SECONDS)


class Controller(Program):
    """One replica of the controller; waits of minutes are cut to moments."""

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        *,
        name: str = "controller",
        settings: Mapping[str, Any] | None = None,
        kubeconfig: Path | None = None,
    ) -> None:
        defaults = {
            "removal_grace_seconds": 0,
            "status_debounce_seconds": 0.1,
            "log_format": "console",
        }
        super().__init__(
            name,
            "localmodel-controller",
            settings={**defaults, **(settings or {})},
            kubeconfig=kubeconfig
            or cluster.kubeconfig_for("localmodel-controller", CONTROLLER_NAMESPACE),
            folder=folder,
        )


class Agent(Program):
    """The agent of one node, with a root folder of its own and a token that is bound to the node, which must exist.

    Waits of minutes are cut to moments; sources on loopback and files below the folder's parent are allowed.
    """

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        *,
        node: str,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.node = node
        self.root = folder / node
        self.root.mkdir(parents=True, exist_ok=True)
        defaults = {
            "node_name": node,
            "root": str(self.root),
            "host_path": "/models",
            "heartbeat_seconds": 5,
            "check_seconds": 1,
            "progress_seconds": 0.5,
            "credentials_recheck_seconds": 1,
            "allowed_networks": ["127.0.0.0/8", "::1/128"],
            "allowed_file_roots": [str(folder.parent)],
            "min_free_percent": 0,
            "log_format": "console",
        }
        super().__init__(
            f"agent-{node}",
            "localmodel-agent",
            settings={**defaults, **(settings or {})},
            kubeconfig=cluster.kubeconfig_for("localmodel-agent", AGENTS_NAMESPACE, node=node),
            folder=folder,
            environment={"NODE_NAME": node, **(environment or {})},
        )

    @property
    def models(self) -> Path:
        return self.root / "models"


def _installed(program: str) -> str:
    """The console script of this very environment."""
    path = shutil.which(program, path=Path(sys.executable).parent)
    if path is None:
        raise RuntimeError(f"{program} is not installed: run `make setup` once")
    return path


def _nobodys(environment: Mapping[str, str]) -> dict[str, str]:
    strange = ("AWS_", "GOOGLE_", "HF_", "HUGGING", "KUBE", "LOCALMODEL_", "STORAGE_EMULATOR")
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(strange) and not name.lower().endswith("_proxy")
    }
    # Nor does a machine in a cloud lend its own identity.
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true"}
