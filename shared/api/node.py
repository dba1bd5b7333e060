"""LocalModelNode (cluster scope, named as its node): one node's work list, and what is really there."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field, computed_field

from shared.api.cache import Storage
from shared.api.meta import ApiModel, Condition, KubeObject, ObjectMeta
from shared.domain.quantity import brief_quantity


class ModelState(StrEnum):
    """State of one copy; empty when it is being removed."""

    UNKNOWN = ""
    DOWNLOAD_PENDING = "ModelDownloadPending"
    DOWNLOADING = "ModelDownloading"
    DOWNLOADED = "ModelDownloaded"
    DOWNLOAD_ERROR = "ModelDownloadError"


class LocalModelInfo(ApiModel):
    """One entry of the work list: a cache that this node should hold."""

    source_model_uri: str = Field(
        max_length=2048, description="Where the model comes from, as in the cache."
    )
    model_name: str = Field(description="Name of the cache.")
    namespace: str | None = Field(
        default=None, description="Namespace of the cache, when it is a LocalModelNamespaceCache."
    )
    node_group: str | None = Field(
        default=None, description="Group of the cache through which the node was chosen."
    )
    service_account_name: str | None = Field(
        default=None, description="ServiceAccount whose secrets give access to the source."
    )
    storage: Storage | None = Field(
        default=None, description="Credentials by an entry of the secret storage-config."
    )
    model_size: int | str | None = Field(
        default=None, description="Space that the cache declares for the model."
    )
    allow_patterns: tuple[str, ...] | None = Field(
        default=None, description="Only files that match one of these are kept."
    )
    ignore_patterns: tuple[str, ...] | None = Field(
        default=None, description="Files that match one of these are left out."
    )
    revision: str | None = Field(
        default=None, description="Revision that all nodes hold, once one agent has resolved it."
    )
    retry: str | None = Field(
        default=None,
        description="Value of the cache's annotation localmodel.kserve.io/retry; a new one retries a failed copy at once.",
    )


class NodeSpec(ApiModel):
    """The work list; written by the controller only."""

    local_models: tuple[LocalModelInfo, ...] = Field(
        description="The models that this node should hold; what is not listed is removed from its disk."
    )


class ModelReport(ApiModel):
    """One copy on this node, in full."""

    key: str = Field(description="modelName, or namespace/modelName; the same as in modelStatus.")
    storage_key: str = Field(description="Folder of the copy below models/.")
    state: ModelState = Field(description="The same as in modelStatus.")
    reason: str | None = Field(default=None, description="Machine-readable reason for the state.")
    message: str | None = Field(default=None, description="What a person should know about it.")
    revision: str | None = Field(default=None, description="What the source resolved to.")
    bytes_total: int | None = Field(
        default=None,
        description="Bytes of the model, once they are known; while a copy is being removed, the bytes that it had.",
    )
    bytes_done: int | None = Field(default=None, description="Of these, the bytes on disk.")
    bytes_per_second: int | None = Field(
        default=None, description="Rate of the transfer, while it runs."
    )
    attempts: int | None = Field(
        default=None, description="Attempts since the last success or change of the work list."
    )
    start_time: datetime | None = Field(default=None, description="When the fetch began.")
    completion_time: datetime | None = Field(
        default=None, description="When the copy was verified and published."
    )
    next_retry_time: datetime | None = Field(
        default=None, description="When a failed copy is tried again."
    )
    verified_by: str | None = Field(
        default=None,
        description="How strongly the weakest file was verified: sha256, git-sha1, md5, crc64nvme, crc32c or size.",
    )


class NodeStorage(ApiModel):
    """The cache's disk; all in bytes."""

    capacity_bytes: int = Field(description="Size of the file system that holds the cache.")
    available_bytes: int = Field(
        description="Free space on it that models may take: without what the agent leaves free in any case."
    )
    kept_free_bytes: int = Field(
        default=0, description="The rest of the free space: what the agent leaves free in any case."
    )
    used_bytes: int = Field(description="Space that the cache takes, in allocated blocks.")
    reserved_bytes: int = Field(
        default=0, description="Space that fetches in flight have still to write."
    )


class AgentInfo(ApiModel):
    """The agent that wrote a status."""

    version: str = Field(description="Version of the agent.")
    start_time: datetime | None = Field(default=None, description="When the agent started.")
    host_path: str | None = Field(
        default=None, description="Folder on the node that the agent serves, models/ included."
    )


class NodeSummary(ApiModel):
    """What kubectl get shows of a node."""

    models: str = Field(description="Complete copies of all on the list.")
    failed: int = Field(description="Copies whose last attempt failed.")
    rate: str | None = Field(
        default=None, description="Bytes per second over all running transfers."
    )
    used: str | None = Field(default=None, description="Space that the cache takes.")
    free: str | None = Field(default=None, description="Free space that models may take.")


class LocalModelNodeStatus(ApiModel):
    """What is on the node; written by that node's agent only."""

    observed_generation: int | None = Field(
        default=None, description="metadata.generation of the work list that this status answers."
    )
    model_status: dict[str, ModelState] | None = Field(
        default=None, description="State of each model, by modelName or namespace/modelName."
    )
    models: tuple[ModelReport, ...] | None = Field(
        default=None, description="Each copy on this node, in full."
    )
    storage: NodeStorage | None = Field(default=None, description="The cache's disk.")
    agent: AgentInfo | None = Field(default=None, description="The agent that wrote this status.")
    conditions: tuple[Condition, ...] | None = Field(
        default=None, description="StorageReady: whether the cache folder can be used."
    )

    @computed_field(description="What kubectl get shows.")  # type: ignore[prop-decorator]
    @property
    def summary(self) -> NodeSummary | None:
        if self.models is None:
            return None
        states = [report.state for report in self.models]
        rate = sum(report.bytes_per_second or 0 for report in self.models)
        return NodeSummary(
            models=f"{states.count(ModelState.DOWNLOADED)}/{len(states)}",
            failed=states.count(ModelState.DOWNLOAD_ERROR),
            rate=f"{brief_quantity(rate)}/s" if rate else None,
            used=brief_quantity(self.storage.used_bytes) if self.storage else None,
            free=brief_quantity(self.storage.available_bytes) if self.storage else None,
        )


class LocalModelNode(KubeObject):
    """One node's work list of models, written by the controller, and what its agent reports is really there."""

    KIND: ClassVar[str] = "LocalModelNode"
    kind: Literal["LocalModelNode"] = "LocalModelNode"
    metadata: ObjectMeta
    spec: NodeSpec
    status: LocalModelNodeStatus = LocalModelNodeStatus()
