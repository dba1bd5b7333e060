"""LocalModelCache (cluster scope) and LocalModelNamespaceCache (namespaced): which model belongs on which nodes."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, computed_field

from shared.api.meta import ApiModel, CelRule, Condition, KubeObject, ObjectMeta

CLUSTER_FINALIZER = "localmodel.kserve.io/finalizer"
NAMESPACE_FINALIZER = "localmodelnamespacecache.kserve.io/finalizer"
RETRY_ANNOTATION = "localmodel.kserve.io/retry"
FORCE_DELETE_ANNOTATION = "localmodel.kserve.io/force-delete"

GroupName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Pattern = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256),
    CelRule(
        "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
        "a pattern matches paths inside the model: it must not start with / or hold ..",
    ),
]
Quantity = Annotated[
    int | str,
    CelRule(
        "type(self) == int ? self >= 0 : isQuantity(self) && !quantity(self).isLessThan(quantity('0'))",
        "must be a quantity such as 10Gi, and not negative",
    ),
]


class NodeState(StrEnum):
    """State of one copy: empty when it is unknown, because the node's agent gives no sign of life."""

    UNKNOWN = ""
    NODE_NOT_READY = "NodeNotReady"
    DOWNLOAD_PENDING = "NodeDownloadPending"
    DOWNLOADING = "NodeDownloading"
    DOWNLOADED = "NodeDownloaded"
    DOWNLOAD_ERROR = "NodeDownloadError"


class Storage(ApiModel):
    """An entry of the `storage-config` secret, and parameters that override its fields."""

    key: str | None = Field(
        default=None,
        max_length=253,
        description="Entry of the secret storage-config that holds the source's credentials; without such an entry, the secret of that name.",
    )
    parameters: dict[str, str] | None = Field(
        default=None, description="Fields that override or complete that entry, such as region."
    )


class CacheSpec(ApiModel):
    """Which model belongs on which nodes."""

    source_model_uri: Annotated[
        str,
        CelRule(
            "self.matches('^[a-zA-Z][a-zA-Z0-9+.-]*://.+')",
            "sourceModelUri must start with a scheme and name a source, such as s3://bucket/model",
        ),
        CelRule(
            "!self.matches('^(?i:https?|s3|gs|hf)://[^/?#]*@|^[^:/?#]+://[^/?#@]*:[^/?#]*@')",
            "sourceModelUri must not hold credentials: name a serviceAccountName or a storage.key instead",
        ),
        CelRule(
            "!self.matches('[[:cntrl:]]|^ | $')",
            "sourceModelUri must not hold control characters, or begin or end with a space",
        ),
        CelRule(
            "!self.matches('^(?i:s3|gs|https?)://([/?#]|$)')",
            "sourceModelUri must name a bucket or host, such as s3://bucket/model",
        ),
        CelRule(
            "!self.matches('^(?i:hf)://') || self.matches('^(?i:hf)://[^/:]+/[^/:]+(:[^:]+)?$')",
            "sourceModelUri must be hf://owner/repo or hf://owner/repo:revision",
        ),
        CelRule(
            "!self.matches('^(?i:file)://') || self.matches('^[a-zA-Z]+:///') && !self.matches('/[.][.](/|$)')",
            "sourceModelUri must hold an absolute path without .., such as file:///models/m",
        ),
        CelRule("self == oldSelf", "sourceModelUri cannot be changed: create another cache"),
    ] = Field(
        max_length=2048,
        description="Where the model comes from: s3://bucket/prefix, gs://bucket/prefix, hf://owner/repo[:revision], "
        "modelscope://owner/model[:revision], oci://registry/image[:tag][@digest], az://container@account.blob.core.windows.net/prefix, "
        "https://account.blob.core.windows.net/container/prefix, webhdfs://host:port/path, git+https://host/repo[@revision], "
        "https://host/file, http://host/file or file:///path. Archives (.tar, .tar.gz, .tgz, .zip) are unpacked. "
        "Cannot be changed.",
    )
    model_size: Quantity = Field(
        description="Space that the model takes on a node, as a quantity such as 10Gi. Compared with the storageLimit "
        "of the node group and with the free space of the node before a copy is sent there."
    )
    node_groups: tuple[GroupName, ...] = Field(
        min_length=1,
        max_length=64,
        description="Names of the LocalModelNodeGroups whose nodes hold the model. Groups may be added and removed.",
    )
    service_account_name: str | None = Field(
        default=None,
        max_length=253,
        description="ServiceAccount in the credentials namespace whose secrets give access to the source. "
        "Without it and without storage the source is read with the agent's own identity, else anonymously.",
    )
    storage: Storage | None = Field(
        default=None,
        description="Access to the source by an entry of the secret storage-config in the credentials namespace.",
    )
    allow_patterns: tuple[Pattern, ...] | None = Field(
        default=None,
        max_length=64,
        description="Only files that match one of these shell patterns are kept, all files when there is none. "
        "Matched against the path inside the model; * also matches /, and a pattern that ends in / means the folder.",
    )
    ignore_patterns: tuple[Pattern, ...] | None = Field(
        default=None,
        max_length=64,
        description="Files that match one of these shell patterns are left out, also when allowPatterns match them.",
    )


class Copies(ApiModel):
    """How many nodes hold the model."""

    available: int = Field(default=0, description="Copies that are complete on Ready nodes.")
    total: int = Field(
        default=0, description="Nodes that should hold the model, NotReady ones included."
    )
    failed: int = Field(default=0, description="Copies whose last attempt failed.")
    downloading: int = Field(default=0, description="Copies that are being fetched now.")
    pending: int = Field(default=0, description="Copies that have not started yet.")

    @computed_field(description="available/total, as kubectl get shows it.")  # type: ignore[prop-decorator]
    @property
    def summary(self) -> str:
        return f"{self.available}/{self.total}"


class NamespacedName(ApiModel):
    """A reference to an object of a known kind."""

    namespace: str | None = Field(default=None, description="Namespace of the object.")
    name: str = Field(description="Name of the object.")


class CacheProgress(ApiModel):
    """Bytes over all nodes."""

    bytes_done: int = Field(default=0, description="Bytes on disk, over all nodes.")
    bytes_total: int = Field(default=0, description="Bytes expected, over all nodes.")
    percent: int = Field(default=0, description="bytesDone of bytesTotal, 0 to 100.")

    @computed_field(description="The percentage, as kubectl get shows it.")  # type: ignore[prop-decorator]
    @property
    def summary(self) -> str:
        return f"{self.percent}%"


class CacheStatus(ApiModel):
    """Where the model is; written by the controller only."""

    observed_generation: int | None = Field(
        default=None, description="metadata.generation that this status was computed from."
    )
    copies: Copies | None = Field(default=None, description="How many nodes hold the model.")
    node_status: dict[str, NodeState] | None = Field(
        default=None, description="State of the model on each node."
    )
    inference_services: tuple[NamespacedName, ...] | None = Field(
        default=None, description="InferenceServices that use this cache."
    )
    llm_inference_services: tuple[NamespacedName, ...] | None = Field(
        default=None,
        alias="llmInferenceServices",
        description="LLMInferenceServices that use this cache.",
    )
    progress: CacheProgress | None = Field(default=None, description="Bytes over all nodes.")
    revision: str | None = Field(
        default=None,
        description="What the source resolved to: a commit, a generation or a digest of the listing.",
    )
    conditions: tuple[Condition, ...] | None = Field(
        default=None, description="Ready, Reconciling and Stalled, as kstatus defines them."
    )


class LocalModelCache(KubeObject):
    """A model that the nodes of some groups hold on their disks, for services of every namespace."""

    KIND: ClassVar[str] = "LocalModelCache"
    kind: Literal["LocalModelCache"] = "LocalModelCache"
    metadata: ObjectMeta
    spec: CacheSpec
    status: CacheStatus = CacheStatus()


class LocalModelNamespaceCache(KubeObject):
    """A model that the nodes of some groups hold on their disks, for services of one namespace."""

    KIND: ClassVar[str] = "LocalModelNamespaceCache"
    kind: Literal["LocalModelNamespaceCache"] = "LocalModelNamespaceCache"
    metadata: ObjectMeta
    spec: CacheSpec
    status: CacheStatus = CacheStatus()


AnyCache = LocalModelCache | LocalModelNamespaceCache
