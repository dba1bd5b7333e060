"""The whole product on a cluster: controller, one agent per node, and how a user sees what becomes of a cache."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from shared.domain.storage_key import storage_key
from tests.support.controlplane import ControlPlane
from tests.support.processes import wait_until
from tests.support.programs import Agent, Controller

API_VERSION = "serving.kserve.io/v1alpha1"
_SECONDS = 30.0


class Installation(ExitStack):
    """`with Installation(control_plane, folder) as site:`; the controller runs, nodes and agents come by `add_node`."""

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        super().__init__()
        self.control_plane = control_plane
        self.folder = folder
        self.agents: dict[str, Agent] = {}
        self.controller = Controller(control_plane, folder / "controller")
        self.callback(self.controller.kill)
        self.controller.start_ready()

    def add_node(
        self,
        node: str,
        labels: Mapping[str, str],
        *,
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Agent:
        self.control_plane.add_node(node, labels)
        agent = Agent(
            self.control_plane,
            self.folder / "nodes",
            node=node,
            settings=settings,
            environment=environment,
        )
        self.callback(agent.kill)
        self.agents[node] = agent
        agent.start_ready()
        return agent

    def label(self, node: str, **labels: str) -> None:
        self.control_plane.kubectl(
            "label", "node", node, "--overwrite", *(f"{k}={v}" for k, v in labels.items())
        )

    def add_group(self, name: str, **labels: str) -> None:
        """For the nodes with these labels; an existing group gets them."""
        requirements = [{"key": k, "operator": "In", "values": [v]} for k, v in labels.items()]
        terms = [{"matchExpressions": requirements}]
        claim = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Ti"}}}
        volume = {
            "accessModes": ["ReadOnlyMany"],
            "capacity": {"storage": "1Ti"},
            "local": {"path": "/models"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        }
        self.control_plane.apply(
            {
                "apiVersion": API_VERSION,
                "kind": "LocalModelNodeGroup",
                "metadata": {"name": name},
                "spec": {
                    "storageLimit": "1Ti",
                    "persistentVolumeSpec": volume,
                    "persistentVolumeClaimSpec": claim,
                },
            }
        )

    def add_cache(
        self, name: str, uri: str, *groups: str, namespace: str | None = None, **spec: Any
    ) -> None:
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        self.control_plane.apply(
            {
                "apiVersion": API_VERSION,
                "kind": "LocalModelNamespaceCache" if namespace else "LocalModelCache",
                "metadata": metadata,
                "spec": {
                    "sourceModelUri": uri,
                    "modelSize": "1Gi",
                    "nodeGroups": list(groups),
                    **spec,
                },
            }
        )

    def delete_cache(self, name: str, *, namespace: str | None = None, wait: bool = True) -> None:
        scope = ("-n", namespace) if namespace else ()
        how = f"--timeout={_SECONDS:.0f}s" if wait else "--wait=false"
        self.control_plane.kubectl("delete", _kind(namespace), name, *scope, how)

    def status(self, name: str, *, namespace: str | None = None) -> dict[str, Any]:
        found = self.control_plane.get(_kind(namespace), name, namespace=namespace) or {}
        status: dict[str, Any] = found.get("status", {})
        return status

    def states(self, name: str, *, namespace: str | None = None) -> dict[str, str]:
        """What the cache says of its nodes."""
        states: dict[str, str] = self.status(name, namespace=namespace).get("nodeStatus", {})
        return states

    def wait_ready(self, name: str, *nodes: str, namespace: str | None = None) -> None:
        """Until `kubectl wait` is content and exactly these nodes have the copy."""
        scope = ("-n", namespace) if namespace else ()
        expected = dict.fromkeys(nodes, "NodeDownloaded")
        self.wait(lambda: self.states(name, namespace=namespace) == expected, f"{name} on {nodes}")
        self.control_plane.kubectl(
            "wait", _kind(namespace), name, *scope,
            "--for=condition=Ready", f"--timeout={_SECONDS:.0f}s",
        )  # fmt: skip

    def wait(self, condition: Callable[[], bool], what: str, *, seconds: float = _SECONDS) -> None:
        try:
            wait_until(condition, seconds=seconds, what=what)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self._describe()}") from None

    def files(self, node: str, uri: str) -> dict[str, bytes]:
        """What the node serves for a source: contents by path; empty when there is nothing."""
        folder = self.agents[node].models / storage_key(uri)
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def left_on(self, node: str) -> list[str]:
        """Every file below the node's root that belongs to any model, finished or not."""
        root = self.agents[node].root
        found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        return sorted(found - {".localmodel/VERSION", ".localmodel/lock"})

    def _describe(self) -> str:
        text = self.control_plane.kubectl(
            "get", "localmodelcaches,localmodelnamespacecaches,localmodelnodes", "-A", "-o", "json"
        )
        shown = ("kind", "metadata", "spec", "status")
        items = [{name: item.get(name) for name in shown} for item in json.loads(text)["items"]]
        for item in items:
            item["metadata"].pop("managedFields", None)
        return json.dumps(items, indent=1)


def _kind(namespace: str | None) -> str:
    return "localmodelnamespacecache" if namespace else "localmodelcache"
