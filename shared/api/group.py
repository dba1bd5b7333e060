"""LocalModelNodeGroup (cluster scope): nodes by affinity, and how much of their disk models may take."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from shared.api.cache import Quantity
from shared.api.meta import ApiModel, Condition, KubeObject, ObjectMeta
from shared.api.volumes import CLAIM, VOLUME


class GroupSpec(ApiModel):
    """Which nodes belong to the group, and how services reach what is on them."""

    storage_limit: Quantity = Field(
        description="Most space that cached models may take on each node of the group, as a quantity such as 1Ti."
    )
    persistent_volume_spec: dict[str, Any] = Field(
        description="Spec of the PersistentVolumes that serve the models; its nodeAffinity.required decides which nodes belong to the group.",
        json_schema_extra={"properties": VOLUME},
    )
    persistent_volume_claim_spec: dict[str, Any] = Field(
        description="Spec of the PersistentVolumeClaims through which services mount the models.",
        json_schema_extra={"properties": CLAIM},
    )


class GroupNodes(ApiModel):
    """Nodes that match the group."""

    total: int = Field(default=0, description="Nodes that match the group.")
    ready: int = Field(default=0, description="Of these, the Ready ones.")


class GroupStatus(ApiModel):
    """What the group's nodes hold; written by the controller only."""

    observed_generation: int | None = Field(
        default=None, description="metadata.generation that this status was computed from."
    )
    used: int | str | None = Field(
        default=None, description="Space that models take on the group's fullest node."
    )
    available: int | str | None = Field(
        default=None, description="Space left for models on the group's fullest node."
    )
    nodes: GroupNodes | None = Field(default=None, description="Nodes that match the group.")
    caches: int | None = Field(default=None, description="Caches that name this group.")
    conditions: tuple[Condition, ...] | None = Field(
        default=None, description="Ready, and what is wrong with the group."
    )


class LocalModelNodeGroup(KubeObject):
    """Nodes that hold models, by affinity, and how much of their disks models may take."""

    KIND: ClassVar[str] = "LocalModelNodeGroup"
    kind: Literal["LocalModelNodeGroup"] = "LocalModelNodeGroup"
    metadata: ObjectMeta
    spec: GroupSpec
    status: GroupStatus = GroupStatus()
