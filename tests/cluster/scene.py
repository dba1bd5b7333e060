"""Groups, nodes and caches of one test, under names that no other test has, and what becomes of them."""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.cluster import kserve
from tests.support.controlplane import ControlPlane
from tests.support.processes import wait_until

API_VERSION = "serving.kserve.io/v1alpha1"
_SECONDS = 20.0


class Scene:
    """Names are given without the test's own prefix, which is added to all that reach the API server."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.control_plane = control_plane
        self.prefix = f"t{uuid.uuid4().hex[:6]}-"
        self._made: list[tuple[str, str, str | None]] = []

    def name(self, name: str) -> str:
        return self.prefix + name

    def add_group(
        self, name: str = "gpu", *, limit: str = "100Gi", pool: str | None = None
    ) -> None:
        """Takes the nodes of `pool`, by default its own name."""
        requirement = {"key": "pool", "operator": "In", "values": [self.name(pool or name)]}
        terms = [{"matchExpressions": [requirement]}]
        self._apply(
            {
                "apiVersion": API_VERSION,
                "kind": "LocalModelNodeGroup",
                "metadata": {"name": self.name(name)},
                "spec": {
                    "storageLimit": limit,
                    "persistentVolumeSpec": {
                        "accessModes": ["ReadWriteOnce"],
                        "capacity": {"storage": limit},
                        "local": {"path": "/models"},
                        "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
                    },
                    "persistentVolumeClaimSpec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": limit}},
                    },
                },
            }
        )

    def add_node(self, name: str, pool: str = "gpu", *, ready: bool = True) -> None:
        """A new node, or an existing one with another pool."""
        self.control_plane.add_node(self.name(name), {"pool": self.name(pool)}, ready=ready)
        self._remember("node", self.name(name))

    def add_cache(
        self,
        name: str = "m",
        *groups: str,
        uri: str | None = None,
        size: str = "1Gi",
        namespace: str | None = None,
        **spec: Any,
    ) -> None:
        metadata = {"name": self.name(name)}
        if namespace is not None:
            metadata["namespace"] = namespace
        self._apply(
            {
                "apiVersion": API_VERSION,
                "kind": "LocalModelNamespaceCache" if namespace else "LocalModelCache",
                "metadata": metadata,
                "spec": {
                    "sourceModelUri": uri or f"s3://models/{self.name(name)}",
                    "modelSize": size,
                    "nodeGroups": [self.name(group) for group in groups or ("gpu",)],
                    **spec,
                },
            }
        )

    def add_namespace(self, name: str) -> None:
        self._apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name(name)}}
        )

    def add_service(
        self,
        name: str,
        cache: str = "m",
        *,
        namespace: str = "team",
        kind: str = kserve.INFERENCE,
        own: bool = False,
        group: str | None = None,
    ) -> None:
        """In a namespace of this scene."""
        group = None if group is None else self.name(group)
        where = self.name(namespace)
        self.control_plane.apply(
            kserve.service(
                self.name(name), where, self.name(cache), kind=kind, own=own, group=group
            )
        )

    def add_services(self, services: Iterable[Mapping[str, Any]]) -> None:
        self.control_plane.apply(*services)

    def delete_service(
        self, name: str, *, namespace: str = "team", kind: str = kserve.INFERENCE
    ) -> None:
        self.delete(kind, name, namespace=self.name(namespace))

    def relabel_service(self, name: str, cache: str, *, namespace: str = "team") -> None:
        label = f"internal.serving.kserve.io/localmodel={self.name(cache)}"
        self.control_plane.kubectl(
            "label",
            "--overwrite",
            kserve.INFERENCE,
            self.name(name),
            "-n",
            self.name(namespace),
            label,
        )

    def apply(self, item: Mapping[str, Any]) -> None:
        """Anything; its name has the prefix already."""
        self._apply(item)

    def try_delete(self, kind: str, name: str, *, namespace: str | None = None) -> str:
        """What kubectl says to it."""
        scope = ("-n", namespace) if namespace else ()
        return self.control_plane.kubectl(
            "delete", kind, self.name(name), *scope, "--wait=false", check=False
        )

    def delete(self, kind: str, name: str, *, namespace: str | None = None) -> None:
        scope = ("-n", namespace) if namespace else ()
        self.control_plane.kubectl("delete", kind, self.name(name), *scope, "--wait=false")

    def read(self, kind: str, name: str, *, namespace: str | None = None) -> dict[str, Any] | None:
        return self.control_plane.get(kind, self.name(name), namespace=namespace)

    def work_list(self, node: str) -> list[str] | None:
        """Names of the caches in the node's work list; None when the node has none."""
        found = self.read("localmodelnode", node)
        if found is None:
            return None
        lines = found.get("spec", {}).get("localModels", ())
        return [line["modelName"].removeprefix(self.prefix) for line in lines]

    def status(self, name: str = "m", *, namespace: str | None = None) -> dict[str, Any]:
        kind = "localmodelnamespacecache" if namespace else "localmodelcache"
        found = self.read(kind, name, namespace=namespace) or {}
        status: dict[str, Any] = found.get("status", {})
        return status

    def node_states(self, name: str = "m", *, namespace: str | None = None) -> dict[str, str]:
        states = self.status(name, namespace=namespace).get("nodeStatus", {})
        return {node.removeprefix(self.prefix): state for node, state in states.items()}

    def condition(
        self, name: str = "m", type: str = "Ready", *, namespace: str | None = None
    ) -> Mapping[str, str]:
        conditions = self.status(name, namespace=namespace).get("conditions", ())
        return next((c for c in conditions if c["type"] == type), {"status": "", "reason": ""})

    def ready(self, name: str = "m", *, namespace: str | None = None) -> bool:
        return self.condition(name, namespace=namespace)["status"] == "True"

    def events(self, name: str) -> set[str]:
        """Reasons of the events about an object."""
        selector = f"--field-selector=involvedObject.name={self.name(name)}"
        text = self.control_plane.kubectl("get", "events", "-A", "-o", "json", selector)
        return {event["reason"] for event in json.loads(text)["items"]}

    def wait(self, condition: Callable[[], bool], what: str, *, seconds: float = _SECONDS) -> None:
        try:
            wait_until(condition, seconds=seconds, what=what, interval=0.05)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.describe()}") from None

    def describe(self) -> str:
        """Everything of this test, for the message of a failure."""
        kinds = "localmodelcaches,localmodelnodes,localmodelnodegroups"
        text = self.control_plane.kubectl("get", kinds, "-o", "json")
        items = json.loads(text)["items"]
        mine = [item for item in items if item["metadata"]["name"].startswith(self.prefix)]
        return json.dumps(
            [{k: i.get(k) for k in ("kind", "spec", "status")} for i in mine], indent=1
        )

    def clean(self) -> None:
        """Caches first, so that no finalizer waits for a controller that is gone."""
        for kind in ("localmodelcache", "localmodelnodegroup", "node"):
            names = [name for made, name, _ in self._made if made == kind]
            if not names:
                continue
            if kind == "localmodelcache":  # services may still use them
                forced = "localmodel.kserve.io/force-delete=true"
                self.control_plane.kubectl("annotate", kind, *names, forced, check=False)
            self.control_plane.kubectl(
                "delete", kind, *names, "--ignore-not-found", "--timeout=20s"
            )
        for namespace in [name for made, name, _ in self._made if made == "namespace"]:
            self.control_plane.kubectl(
                "delete", "namespace", namespace, "--ignore-not-found", "--wait=false"
            )

    def _apply(self, item: Mapping[str, Any]) -> None:
        self.control_plane.apply(item)
        metadata = item["metadata"]
        self._remember(item["kind"].lower(), metadata["name"], metadata.get("namespace"))

    def _remember(self, kind: str, name: str, namespace: str | None = None) -> None:
        if (kind, name, namespace) not in self._made:
            self._made.append((kind, name, namespace))
