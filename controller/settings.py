"""The controller's settings."""

from pydantic import Field

from shared.kube.transport import WATCH_SILENCE_SECONDS
from shared.ops.settings import Settings


class ControllerSettings(Settings):
    """Keys of /etc/localmodel/controller.yaml; as environment variables: LOCALMODEL_<NAME>."""

    namespace: str = Field(default="localmodel-system", description="Where the leader Lease is.")
    agents_namespace: str = Field(
        default="localmodel-agents", description="Where the agents keep their Leases."
    )
    credentials_namespace: str = Field(
        default="kserve-localmodel-jobs", description="Where the agents read credentials."
    )
    kserve_namespace: str = Field(
        default="kserve", description="Where KServe keeps its ConfigMap inferenceservice-config."
    )
    leader_elect: bool = Field(
        default=True, description="Contend for the leader Lease; false for a single replica."
    )
    lease_seconds: int = Field(
        default=15,
        ge=3,
        description="How long a leader that was lost keeps another from leading.",
    )
    http_host: str = Field(default="0.0.0.0", description="Address of the health server.")  # noqa: S104  # probes come from the kubelet
    http_port: int = Field(
        default=8080, ge=0, le=65535, description="Port of the health server; 0 picks one."
    )
    ui: bool = Field(
        default=True,
        description="Serve the page of caches and nodes, /ui, on the health port; it asks nobody who they are.",
    )
    agent_silence_seconds: float = Field(
        default=120,
        gt=0,
        description="After this long without a sign an agent's word counts no more.",
    )
    removal_grace_seconds: float = Field(
        default=300,
        ge=0,
        description="How long a copy stays after an edit of labels or groups made it superfluous.",
    )
    deletion_silence_seconds: float = Field(
        default=900,
        gt=0,
        description="After this long without a sign from a node's agent, deletions do not wait for it.",
    )
    recheck_seconds: float = Field(
        default=30,
        gt=0,
        description="How often to look for kinds of services that are not installed, and at the installed CRDs; one that was installed is gone when it was missed for so long.",
    )
    watch_silence_seconds: float = Field(
        default=WATCH_SILENCE_SECONDS,
        ge=1,
        description="A watch on which nothing came for so long is begun anew; the API server says something about once a minute.",
    )
    settle_seconds: float = Field(
        default=0.3,
        ge=0,
        description="Edits of caches and groups that follow each other this closely are written together.",
    )
    status_debounce_seconds: float = Field(
        default=1,
        ge=0,
        description="Least time between two statuses of a cache; longer for bytes and copies that move, up to sixty times in large fleets.",
    )
    workers: int = Field(default=16, ge=1, le=64, description="Passes at a time, for each kind.")
    kube_qps: float = Field(default=300, gt=0, description="Requests a second to the API server.")
    kube_burst: int = Field(default=600, gt=0, description="Requests at once beyond kube_qps.")
