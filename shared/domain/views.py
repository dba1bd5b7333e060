"""Compact frozen values: what the planners need of each object, small enough for thousands of nodes in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from shared.api.cache import CLUSTER_FINALIZER, NAMESPACE_FINALIZER
from shared.api.core import NodeSelector
from shared.api.meta import Condition
from shared.api.node import ModelState

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Entry:
    """One line of a work list. Equal lines are one object (`shared.domain.parse.entry`), so `is` compares them."""

    key: str
    storage_key: str
    group: str | None
    revision: str | None
    size: int
    wire: Mapping[str, Any]
    """As in `LocalModelNode.spec.localModels[]`; shared between nodes, never to be changed."""


@dataclass(frozen=True, slots=True)
class CacheView:
    """A LocalModelCache or LocalModelNamespaceCache. `key` is `name` or `namespace/name`, as in LocalModelNode.status."""

    key: str
    namespace: str | None
    name: str
    uri: str
    storage_key: str
    size: int
    groups: tuple[str, ...]
    wire: Mapping[str, Any] = field(default_factory=dict)
    """Its work-list entry, without nodeGroup and revision."""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    created: str = ""
    """RFC 3339, which sorts as text."""
    deleting: bool = False
    finalizers: tuple[str, ...] = ()
    revision: str | None = None
    conditions: tuple[Condition, ...] = ()
    users: Mapping[str, Any] = field(default_factory=dict)
    """Its services as the status names them, by field."""
    unheard: frozenset[str] = frozenset()
    """Nodes that its status shows as unknown, or as not Ready."""
    status: bytes = b""
    """Digest of the whole status, to see whether a new one differs."""
    defect: str | None = None
    """Why the spec cannot be used, when it cannot; such a cache is placed nowhere."""

    @property
    def kind(self) -> str:
        return "LocalModelCache" if self.namespace is None else "LocalModelNamespaceCache"

    @property
    def finalizer(self) -> str:
        return CLUSTER_FINALIZER if self.namespace is None else NAMESPACE_FINALIZER

    @property
    def guarded(self) -> bool:
        """Whether its deletion will wait for us; only then it may be placed."""
        return self.finalizer in self.finalizers

    @property
    def wanted(self) -> bool:
        return self.guarded and not self.deleting and self.defect is None


@dataclass(frozen=True, slots=True)
class GroupView:
    """A LocalModelNodeGroup. `limit`: bytes per node. `path`: folder on the node that its volumes show."""

    name: str
    limit: int
    selector: NodeSelector | None
    path: str | None = None
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    deleting: bool = False
    conditions: tuple[Condition, ...] = ()
    status: bytes = b""
    defect: str | None = None
    volume: Mapping[str, Any] = field(default_factory=dict)
    claim: Mapping[str, Any] = field(default_factory=dict)
    """Specs of the PersistentVolumes and claims that serve it."""


@dataclass(frozen=True, slots=True)
class NodeView:
    name: str
    uid: str = ""
    ready: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReportView:
    """What an agent says of one copy. KServe's agent gives the state alone."""

    state: ModelState
    storage_key: str | None = None
    reason: str | None = None
    message: str | None = None
    revision: str | None = None
    bytes_total: int | None = None
    bytes_done: int | None = None
    rate: int | None = field(default=None, compare=False)
    """Bytes per second. Nothing is decided by this, nor by the times (RFC 3339), so they make no difference."""
    retry_at: str | None = field(default=None, compare=False)
    completed: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class StorageView:
    """A node's disk in bytes. `used`: by the cache; `available`: what models may take of the rest."""

    available: int
    used: int
    capacity: int | None = field(default=None, compare=False)
    kept: int = field(default=0, compare=False)
    """Free, and kept so. Both are shown, never decided by."""

    @property
    def room(self) -> int:
        """Bytes that models may take in all, what is there and what is on its way included."""
        return self.available + self.used


@dataclass(frozen=True, slots=True)
class WorkView:
    """A LocalModelNode: what the node should hold (`entries`), and what its agent says (`reports`)."""

    name: str
    entries: tuple[Entry, ...] = ()
    reports: Mapping[str, ReportView] = field(default_factory=dict)
    observed: int | None = None
    """Generation of the work list that the reports answer; None: KServe's agent, or nobody yet."""
    storage: StorageView | None = None
    host_path: str | None = None
    owner: str | None = None
    """uid of the Node it belongs to."""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A sign of life: any change of it means that its holder lives."""

    name: str
    renewed: str
