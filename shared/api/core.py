"""Slices of Kubernetes' own kinds: only the fields that we read."""

from datetime import datetime
from typing import Any

from pydantic import Field

from shared.api.meta import ApiModel, ObjectMeta


class NodeCondition(ApiModel):
    type: str
    status: str
    reason: str = ""
    last_transition_time: datetime | None = None


class NodeStatus(ApiModel):
    conditions: tuple[NodeCondition, ...] = ()


class Node(ApiModel):
    metadata: ObjectMeta
    status: NodeStatus = NodeStatus()


class SelectorRequirement(ApiModel):
    """One requirement of a node selector term; `operator` is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class NodeSelectorTerm(ApiModel):
    match_expressions: tuple[SelectorRequirement, ...] = ()
    match_fields: tuple[SelectorRequirement, ...] = ()


class NodeSelector(ApiModel):
    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class ObjectReference(ApiModel):
    name: str


class ServiceAccount(ApiModel):
    metadata: ObjectMeta
    secrets: tuple[ObjectReference, ...] = ()


class Secret(ApiModel):
    """`data` is base64, as on the wire. Never log or dump it."""

    metadata: ObjectMeta
    data: dict[str, str] = Field(default_factory=dict, repr=False)


class ConfigMap(ApiModel):
    metadata: ObjectMeta
    data: dict[str, str] = Field(default_factory=dict)


class LeaseSpec(ApiModel):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: datetime | None = None
    renew_time: datetime | None = None
    lease_transitions: int | None = None


class Lease(ApiModel):
    metadata: ObjectMeta
    spec: LeaseSpec = LeaseSpec()


class PersistentVolume(ApiModel):
    metadata: ObjectMeta
    spec: dict[str, Any] = Field(default_factory=dict)
    status: dict[str, Any] = Field(default_factory=dict)


class PersistentVolumeClaim(ApiModel):
    metadata: ObjectMeta
    spec: dict[str, Any] = Field(default_factory=dict)
    status: dict[str, Any] = Field(default_factory=dict)
