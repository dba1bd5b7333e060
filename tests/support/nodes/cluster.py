"""A control plane and real nodes on this machine, which must be ours alone to change: it takes root."""

import contextlib
import fcntl
import json
import shutil
from pathlib import Path
from typing import Self

from tests.support.controlplane import ControlPlane
from tests.support.nodes import cgroups
from tests.support.nodes.network import MOST_NODES, SERVICE, Network
from tests.support.nodes.node import Node
from tests.support.processes import wait_until

MODELS = Path("/models")
_LOCK = Path("/tmp/localmodel-nodes.lock")
_READY_SECONDS = 90


class RealCluster(contextlib.ExitStack):
    """`with RealCluster(folder, images) as cluster:` — `cluster.add_node(...)`, `cluster.control_plane.kubectl(...)`.

    images: archives that every node is given. Leaving it ends and removes everything; what a killed run left behind
    (a bridge, empty control groups) the next one clears away. One at a time on a machine: a second one waits.
    """

    def __init__(self, folder: Path, images: tuple[Path, ...]) -> None:
        super().__init__()
        self.folder = folder
        self.nodes: dict[str, Node] = {}
        self._images = images

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        lock = self.enter_context(_LOCK.open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        cgroups.remove()
        self.callback(cgroups.remove)
        if not MODELS.exists():
            MODELS.mkdir()
            self.callback(MODELS.rmdir)
        self.network = self.enter_context(Network())
        self.control_plane = self.enter_context(
            ControlPlane(self.folder / "controlplane", service=SERVICE)
        )

    def add_node(
        self, name: str, *, disk_mib: int = 4096, labels: dict[str, str] | None = None
    ) -> Node:
        """A new machine joins; returns when its Node object is Ready."""
        used = {node.number for node in self.nodes.values()}
        number = next(n for n in range(1, MOST_NODES + 1) if n not in used)
        node = Node(
            name,
            number,
            control_plane=self.control_plane,
            network=self.network,
            disk_mib=disk_mib,
        )
        self.nodes[name] = node
        self.callback(self._discard, node)
        node.start(kubelet=False)
        for image in self._images:
            node.import_image(image)
        node.start_kubelet()
        self.wait_node(name)
        if labels:
            pairs = [f"{key}={value}" for key, value in labels.items()]
            self.control_plane.kubectl("label", "node", name, "--overwrite", *pairs)
        return node

    def remove_node(self, name: str) -> None:
        """The machine is gone and its Node object deleted."""
        self._discard(self.nodes[name])
        self.control_plane.kubectl("delete", "node", name)

    def wait_node(self, name: str, *, ready: bool = True, seconds: float = _READY_SECONDS) -> None:
        def as_wanted() -> bool:
            node = self.control_plane.get("node", name) or {}
            conditions = node.get("status", {}).get("conditions", [])
            states = {item["type"]: item["status"] for item in conditions}
            return (states.get("Ready") == "True") is ready

        wait_until(as_wanted, seconds=seconds, what=f"node {name} ready={ready}", interval=0.5)

    def pods(self, namespace: str, selector: str) -> list[dict[str, object]]:
        text = self.control_plane.kubectl(
            "get", "pods", "-n", namespace, "-l", selector, "-o", "json"
        )
        found: list[dict[str, object]] = json.loads(text)["items"]
        return found

    def _discard(self, node: Node) -> None:
        if self.nodes.pop(node.name, None) is not None:
            node.remove()
            shutil.rmtree(node.folder, ignore_errors=True)
