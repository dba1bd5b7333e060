"""Everything that the controller ever does to the cluster: a closed union, executed in one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shared.domain.reasons import Reason
from shared.domain.views import CacheView, Entry, GroupView, NodeView


@dataclass(frozen=True, slots=True)
class Announcement:
    """An event that a person would want to know about."""

    type: Literal["Normal", "Warning"]
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class ApplyWorkList:
    """Create or replace a node's work list. `owner`: uid of the Node, which takes the LocalModelNode along when it goes."""

    node: str
    owner: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class DeleteWorkList:
    """Only this very object (`uid`), and only while it is as it was read when `resource_version` is given."""

    node: str
    uid: str
    resource_version: str | None
    because: str


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    cache: CacheView


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """`volumes`: those that no owner takes along; they go first. `unconfirmed`: nodes that may still hold the copy."""

    cache: CacheView
    announce: tuple[Announcement, ...]
    volumes: tuple["DeleteVolume", ...] = ()
    unconfirmed: tuple[NodeView, ...] = ()


@dataclass(frozen=True, slots=True)
class ApplyCacheStatus:
    cache: CacheView
    status: Mapping[str, Any]
    announce: tuple[Announcement, ...]


@dataclass(frozen=True, slots=True)
class ApplyGroupStatus:
    group: GroupView
    status: Mapping[str, Any]
    announce: tuple[Announcement, ...]


@dataclass(frozen=True, slots=True)
class CreateVolume:
    """`body`: metadata and spec of the PersistentVolume."""

    cache: CacheView
    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CreateClaim:
    cache: CacheView
    namespace: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PatchVolume:
    """A merge patch, only while the volume is as it was read."""

    name: str
    resource_version: str
    patch: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteVolume:
    """Only this very object."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeleteClaim:
    namespace: str
    name: str
    uid: str


VolumeAction = CreateVolume | CreateClaim | PatchVolume | DeleteVolume | DeleteClaim
NodeAction = ApplyWorkList | DeleteWorkList
CacheAction = AddFinalizer | RemoveFinalizer | ApplyCacheStatus
Action = NodeAction | CacheAction | ApplyGroupStatus | VolumeAction
