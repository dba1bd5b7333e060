"""Kinds of objects by their place in the API, and the keys of single objects."""

from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from shared.api.meta import GROUP, VERSION


class ObjectKey(NamedTuple):
    """Namespace (None for cluster scope) and name of one object of a known kind."""

    namespace: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the API serves it; `group` is "" for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(
        self,
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> str:
        """URL path of the collection, of one object, or of its subresource. ValueError when a namespace is missing."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        elif name is not None and self.namespaced:
            raise ValueError(f"{self.kind} {name} needs a namespace")
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/" + "/".join(quote(part, safe="") for part in parts)


def object_key(wire: dict[str, Any]) -> ObjectKey:
    """Key of an object as the API returned it."""
    metadata = wire["metadata"]
    return ObjectKey(metadata.get("namespace"), metadata["name"])


LOCAL_MODEL_CACHES = Resource(GROUP, VERSION, "localmodelcaches", "LocalModelCache", False)
LOCAL_MODEL_NAMESPACE_CACHES = Resource(
    GROUP, VERSION, "localmodelnamespacecaches", "LocalModelNamespaceCache", True
)
LOCAL_MODEL_NODE_GROUPS = Resource(
    GROUP, VERSION, "localmodelnodegroups", "LocalModelNodeGroup", False
)
LOCAL_MODEL_NODES = Resource(GROUP, VERSION, "localmodelnodes", "LocalModelNode", False)
NODES = Resource("", "v1", "nodes", "Node", False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", False)
SECRETS = Resource("", "v1", "secrets", "Secret", True)
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount", True)
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap", True)
PERSISTENT_VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", False)
PERSISTENT_VOLUME_CLAIMS = Resource(
    "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True
)
EVENTS = Resource("events.k8s.io", "v1", "events", "Event", True)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", True)
CUSTOM_RESOURCE_DEFINITIONS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False
)
