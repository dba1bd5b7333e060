"""The docs' failure investigation, as it really happens: four nodes, four faults, kubectl and its plugin.

`python -m tests.docs.investigation` plays it and writes docs/investigation.md; the tests play it again.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from shared.api.meta import API_VERSION
from tests.docs.story import STORY, Step
from tests.support import binaries
from tests.support.cluster import CREDENTIALS_NAMESPACE, REPOSITORY
from tests.support.controlplane import ControlPlane
from tests.support.mounts import tmpfs
from tests.support.programs import Agent, Controller
from tests.support.servers.s3 import NOBODY, READER, Keys, S3Server

PAGE = REPOSITORY / "docs/investigation.md"
_NODES = ("gpu-1", "gpu-2", "gpu-3")
_SMALL = "edge-1"
_MIB = 1 << 20
_WEIGHTS = {
    "llama": _MIB,
    "mistral": _MIB,
    "old-model": _MIB,
    "whisper": 16 * _MIB,
    "phi": 20 * _MIB,
}
# A busy machine starts the programs slowly, and retries come with growing pauses.
_SECONDS = 90.0
_ANSWER_SECONDS = 120
_HEADER = """\
<!-- Written by `python -m tests.docs.investigation` from a run. -->
# A failure investigation

Four faults, found and mended with kubectl and `kubectl localmodel` alone. This is what a run on a real API server printed, with a
real S3 server and four agents, one of them on a disk of 32 MiB; `tests/docs` plays it again and compares the lines of each answer.
Waits of minutes were cut to seconds.
"""


class Site(ExitStack):
    """A running installation whose faults are about to be found. Leaving it leaves a clean control plane."""

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        super().__init__()
        self._control_plane = control_plane
        self._folder = folder
        self._agents: dict[str, Agent] = {}
        self.has_small_disk = os.geteuid() == 0

    def __enter__(self) -> "Site":
        super().__enter__()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def lose(self, node: str) -> None:
        """As when a machine dies: its agent is gone, and Kubernetes notices after a while."""
        self._agents[node].kill()
        self._control_plane.set_node_ready(node, False)

    def run(self, command: str) -> str:
        """What the command prints; AssertionError when it fails."""
        kubectl = binaries.find(["kubectl"])["kubectl"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KUBE")}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self._folder,
            env={
                **kept,
                "PATH": f"{REPOSITORY / '.venv/bin'}:{kubectl.parent}:{os.environ['PATH']}",
                "KUBECONFIG": str(self._control_plane.admin_kubeconfig),
                "COLUMNS": "120",
            },
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return "\n".join(line.rstrip() for line in done.stdout.splitlines())

    def _start(self) -> None:
        plane = self._control_plane
        self.callback(plane.clear)
        s3 = self.enter_context(S3Server())
        for model, size in _WEIGHTS.items():
            s3.put("models", f"{model}/config.json", b"{}")
            s3.put("models", f"{model}/weights.bin", os.urandom(size))
        for name, keys in (("s3-reader", NOBODY), ("s3-reader-mended", READER)):
            (self._folder / f"{name}.yaml").write_text(yaml.safe_dump(_secret(s3, keys)))
        plane.kubectl("apply", "-f", str(self._folder / "s3-reader.yaml"))
        self.callback(plane.kubectl, "delete", "-n", CREDENTIALS_NAMESPACE, "secret/s3-reader")
        plane.apply(_account())
        self.callback(plane.kubectl, "delete", "-n", CREDENTIALS_NAMESPACE, "sa/s3-reader")
        group = yaml.safe_load((REPOSITORY / "deploy/examples/gpu-workers.yaml").read_text())
        group["spec"]["storageLimit"] = "4Gi"
        plane.apply(group)
        for node in _NODES:
            plane.add_node(node, {"accelerator": "gpu"})
        roots: dict[str, dict[str, str]] = {node: {} for node in _NODES}
        if self.has_small_disk:
            plane.apply(_edge_workers(group))
            plane.add_node(_SMALL, {"accelerator": "none"})
            disk = self.enter_context(tmpfs(self._folder / "small", "size=32m"))
            roots[_SMALL] = {"root": str(disk)}
        controller = Controller(plane, self._folder, settings={"settle_seconds": 0.05})
        self.callback(controller.kill)
        controller.start()
        for node, root in roots.items():
            agent = Agent(
                plane,
                self._folder,
                node=node,
                settings={"heartbeat_seconds": 1, **root},
                environment={"AWS_ENDPOINT_URL_S3": s3.endpoint},
            )
            self.callback(agent.kill)
            agent.start()
            self._agents[node] = agent
        for program in (controller, *self._agents.values()):
            program.wait_ready(lambda: program.ready, seconds=_SECONDS)  # noqa: B023 — called at once
        entry = {"name": "storage-config", "namespace": CREDENTIALS_NAMESPACE}
        plane.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": entry,
                "stringData": {"team": json.dumps(_entry(s3))},
            }
        )  # fmt: skip
        self.callback(plane.kubectl, "delete", "-n", CREDENTIALS_NAMESPACE, "secret/storage-config")
        plane.apply(_cache("old-model", "3Gi", storage={"key": "team"}))
        self.run(
            "kubectl localmodel wait old-model --timeout 90s || { kubectl localmodel explain old-model; exit 1; }"
        )
        if self.has_small_disk:
            here: dict[str, object] = {"storage": {"key": "team"}, "nodeGroups": ["edge-workers"]}
            plane.apply(_cache("whisper", "18Mi", **here))
            self.run("kubectl localmodel wait whisper --timeout 90s")
            plane.apply(_cache("phi", "4Mi", **here))
        plane.apply(_cache("llama", "500Mi", serviceAccountName="s3-reader"))
        plane.apply(_cache("mistral", "2Gi", storage={"key": "team"}))


def play(site: Site) -> Iterator[tuple[Step, str]]:
    """Each step with its answer. A question is asked again until the answer has its rows; what changes something need not be."""
    for step in STORY:
        if step.disk and not site.has_small_disk:
            continue
        if step.lost is not None:
            site.lose(step.lost)
        answer = site.run(step.command)
        deadline = time.monotonic() + _SECONDS
        while lacking := step.lacking(answer):
            assert time.monotonic() < deadline, f"{step.command}: no {lacking} in\n{answer}"
            time.sleep(0.5)
            answer = site.run(step.command)
        yield step, answer


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ControlPlane(Path(folder) / "plane") as plane:
        plane.apply_deploy()
        work = Path(folder) / "work"
        work.mkdir()
        with Site(plane, work) as site:
            parts = [
                f"{step.says}\n\n```\n$ {step.command}\n{answer}\n```\n"
                for step, answer in play(site)
            ]
    PAGE.write_text("\n".join([_HEADER, *parts]), encoding="utf-8")


def _cache(name: str, size: str, **access: object) -> dict[str, object]:
    return {
        "apiVersion": API_VERSION,
        "kind": "LocalModelCache",
        "metadata": {"name": name},
        "spec": {
            "sourceModelUri": f"s3://models/{name}",
            "modelSize": size,
            "nodeGroups": ["gpu-workers"],
            **access,
        },
    }


def _edge_workers(like: dict[str, Any]) -> dict[str, Any]:
    group = json.loads(json.dumps(like))
    group["metadata"]["name"] = "edge-workers"
    group["spec"]["storageLimit"] = "1Gi"
    required = group["spec"]["persistentVolumeSpec"]["nodeAffinity"]["required"]
    required["nodeSelectorTerms"] = [
        {"matchExpressions": [{"key": "accelerator", "operator": "In", "values": ["none"]}]}
    ]
    return group  # type: ignore[no-any-return]


def _account() -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "s3-reader", "namespace": CREDENTIALS_NAMESPACE},
        "secrets": [{"name": "s3-reader"}],
    }


def _secret(s3: S3Server, keys: Keys) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "s3-reader",
            "namespace": CREDENTIALS_NAMESPACE,
            "annotations": {
                "serving.kserve.io/s3-endpoint": s3.endpoint,
                "serving.kserve.io/s3-region": "us-east-1",
            },
        },
        "stringData": {
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        },
    }


def _entry(s3: S3Server) -> dict[str, str]:
    return {
        "type": "s3",
        "access_key_id": READER.access_key_id,
        "secret_access_key": READER.secret_access_key,
        "endpoint_url": s3.endpoint,
        "region": "us-east-1",
    }


if __name__ == "__main__":
    main()
