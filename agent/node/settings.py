"""The agent's settings: keys of the mounted YAML file; `LOCALMODEL_<NAME>` in the environment wins."""

import os
import socket
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from pydantic import Field

from agent.transfer.pages import Writing
from shared.ops.settings import Settings


class AgentSettings(Settings):
    """Everything an admin can set; each default suits a node with a few hundred GB for models."""

    node_name: str = Field(
        default_factory=lambda: os.environ.get("NODE_NAME") or socket.gethostname(),
        min_length=1,
        description="Name of the Node, and so of the LocalModelNode that this agent answers. Default: environment variable NODE_NAME.",
    )
    root: Path = Field(
        default=Path("/mnt/models"),
        description="Folder that holds the cache, as the agent sees it.",
    )
    host_path: str = Field(
        default="/models", description="The same folder as the node sees it; shown in the status."
    )
    credentials_namespace: str = Field(
        default="kserve-localmodel-jobs",
        description="Namespace of the ServiceAccounts and Secrets that copies name.",
    )
    namespace_credentials: Literal["shared", "own"] = Field(
        default="shared",
        description="Where the credentials of a namespace's caches are: shared, in credentials_namespace, as KServe has it; own, in the cache's namespace, which binds ClusterRole localmodel-credentials-reader to the agents.",
    )
    lease_namespace: str = Field(
        default="localmodel-agents", description="Namespace of this node's heartbeat Lease."
    )
    http_host: str = Field(default="0.0.0.0", description="Address of /healthz, /readyz, /metrics.")  # noqa: S104 — probes come from the kubelet
    http_port: int = Field(
        default=8081, ge=0, le=65535, description="Their port; 0 = any, printed."
    )
    heartbeat_seconds: float = Field(default=30, gt=0, description="Between renewals of the Lease.")
    check_seconds: float = Field(
        default=60, gt=0, description="Between looks at each published copy on disk."
    )
    connections: int = Field(
        default=256,
        ge=1,
        le=256,
        description="Connections to sources, over all copies; for large files only as many as memory_mib has 2 MiB for.",
    )
    parallel_copies: int = Field(
        default=4, ge=1, le=64, description="Copies that are fetched at a time."
    )
    max_bytes_per_second: int = Field(
        default=0, ge=0, description="Limit over all copies; 0 = unlimited."
    )
    memory_mib: int = Field(default=128, ge=8, description="Bytes in flight, in MiB.")
    part_size_mib: int = Field(
        default=64,
        ge=1,
        le=1024,
        description="Size of the ranges in which large files are fetched.",
    )
    writing: Writing = Field(
        default=Writing.AUTO,
        description="How large files are written: direct, past the page cache; buffered, which leaves them in it; auto: buffered while a model fits into an eighth of the memory it may use.",
    )
    min_free_percent: float = Field(
        default=5, ge=0, lt=100, description="Share of the disk that models leave free."
    )
    allowed_file_roots: tuple[Path, ...] = Field(
        default=(), description="Folders that file:// sources may name; none by default."
    )
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(),
        description="Networks that sources may use although they are loopback, link-local or metadata addresses.",
    )
    hf_endpoint: str | None = Field(
        default=None, description="Hugging Face Hub to use instead of huggingface.co."
    )
    gid: int | None = Field(
        default=None,
        ge=0,
        description="Group of the published files, of which the pod is a member (supplementalGroups); None = the agent's own.",
    )
    retry_seconds: float = Field(
        default=5, gt=0, description="First wait after a failure that may pass; doubles each time."
    )
    retry_max_seconds: float = Field(default=300, gt=0, description="Longest such wait.")
    stalled_retry_seconds: float = Field(
        default=600,
        gt=0,
        description="Wait after a failure that needs somebody to change something.",
    )
    credentials_recheck_seconds: float = Field(
        default=60,
        gt=0,
        description="Between looks whether the Secrets that failed copies name have changed.",
    )
    progress_seconds: float = Field(
        default=5, gt=0, description="Shortest time between status writes that only show progress."
    )
    archive_ratio: float = Field(
        default=20, ge=1, description="An archive may unpack to so many times its own size."
    )
    scrub_days: float = Field(
        default=14,
        ge=0,
        description="Within so many days each published file is read again and compared with its digest, while nothing is fetched; 0 = never.",
    )
    retired_grace_seconds: float = Field(
        default=24 * 3600,
        ge=0,
        description="How long a replaced tree stays readable for pods that still mount it.",
    )
    credential_endpoints: tuple[str, ...] = Field(
        default=(),
        description="host or host:port that stored credentials may go to although storage.parameters or a URI names it.",
    )
    generic_schemes: tuple[str, ...] = Field(
        default=(),
        description="Further schemes, such as ftp, that may be read through whatever fsspec has for them: slower, verified by size alone, and with connections that allowed_networks cannot check.",
    )
    # One object is watched; a few requests a minute are all that a quiet node needs.
    kube_qps: float = Field(default=10, gt=0, description="Requests a second to the API server.")
    kube_burst: int = Field(default=20, gt=0, description="Requests at once beyond kube_qps.")
