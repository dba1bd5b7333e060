"""The parts every object has: metadata, conditions, and the base of all models."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

GROUP = "serving.kserve.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
VALIDATIONS = "x-kubernetes-validations"

ConditionStatus = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class CelRule:
    """Annotation: a CEL rule that the API server checks, and what it answers when the rule fails."""

    rule: str
    message: str

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        entry = {"rule": self.rule, "message": self.message}
        return {**schema, VALIDATIONS: [*schema.get(VALIDATIONS, ()), entry]}


class ApiModel(BaseModel):
    """A frozen value with camelCase names on the wire; unknown fields are ignored, as clients of Kubernetes must."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    def to_wire(self) -> dict[str, Any]:
        """JSON-ready; fields that are None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OwnerReference(ApiModel):
    """Whose deletion takes this object along (garbage collection)."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(ApiModel):
    """The slice of Kubernetes' ObjectMeta that we read."""

    name: str
    namespace: str | None = None
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class Condition(ApiModel):
    """A standard Kubernetes condition; kstatus reads `Ready`, `Reconciling` and `Stalled`."""

    type: str = Field(
        max_length=316,
        pattern=r"^([A-Za-z0-9][-A-Za-z0-9_./]*)?[A-Za-z0-9]$",
        description="Type of the condition, for example Ready.",
    )
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(
        min_length=1,
        max_length=1024,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        description="Machine-readable reason for the condition's last transition.",
    )
    message: str = Field(
        default="", max_length=32768, description="What a person should know about it."
    )
    last_transition_time: datetime = Field(
        description="When the status changed last; a new reason or message alone does not move it."
    )
    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation that this condition was computed from."
    )


class KubeObject(ApiModel):
    """An object with metadata. Subclasses name their `kind`, as JSON carries it."""

    api_version: str = API_VERSION
    kind: str
    metadata: ObjectMeta

    KIND: ClassVar[str] = ""
