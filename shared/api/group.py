"""LocalModelNodeGroup (cluster scope): nodes by affinity, and how much of their disk models may take."""

from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.config import JsonDict

from shared.api.cache import Quantity
from shared.api.meta import ApiModel, Condition, KubeObject, ObjectMeta


def _described(type: str, description: str, **more: JsonDict) -> JsonDict:
    described: JsonDict = {"type": type, "description": description}
    if type == "object":
        described["x-kubernetes-preserve-unknown-fields"] = True
    return {**described, **more}


_STRINGS: JsonDict = {"type": "string"}
_MODES = _described(
    "array", "How the volume may be mounted, for example ReadOnlyMany.", items=_STRINGS
)
_CLASS = _described("string", "Storage class; volume and claim must name the same one.")
_FILESYSTEM = _described("string", "Filesystem, the default, or Block.")
# Common fields are described for kubectl explain; every other field of the core type is kept as it is.
_VOLUME: JsonDict = {
    "accessModes": _MODES,
    "storageClassName": _CLASS,
    "volumeMode": _FILESYSTEM,
    "capacity": _described("object", "Size of the volume, as storage: 1Ti."),
    "persistentVolumeReclaimPolicy": _described("string", "Retain, Delete or Recycle."),
    "local": _described(
        "object",
        "A folder of the node.",
        properties={"path": _described("string", "The folder, for example /models.")},
    ),
    "hostPath": _described(
        "object",
        "A folder of the node.",
        properties={
            "path": _described("string", "The folder, for example /models."),
            "type": _described("string", "What must be there, for example DirectoryOrCreate."),
        },
    ),
    "nodeAffinity": _described(
        "object",
        "Which nodes belong to the group.",
        properties={
            "required": _described(
                "object", "A node selector: its terms are ORed; without it no node belongs."
            )
        },
    ),
}
_CLAIM: JsonDict = {
    "accessModes": _MODES,
    "storageClassName": _CLASS,
    "volumeMode": _FILESYSTEM,
    "resources": _described("object", "How much space is asked for, as requests: {storage: 1Ti}."),
}


class GroupSpec(ApiModel):
    """Which nodes belong to the group, and how services reach what is on them."""

    storage_limit: Quantity = Field(
        description="Most space that cached models may take on each node of the group, as a quantity such as 1Ti."
    )
    persistent_volume_spec: dict[str, Any] = Field(
        description="Spec of the PersistentVolumes that serve the models; its nodeAffinity.required decides which nodes belong to the group.",
        json_schema_extra={"properties": _VOLUME},
    )
    persistent_volume_claim_spec: dict[str, Any] = Field(
        description="Spec of the PersistentVolumeClaims through which services mount the models.",
        json_schema_extra={"properties": _CLAIM},
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
