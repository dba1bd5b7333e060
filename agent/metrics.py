"""What the agent counts. Labels come from enums and known schemes only, never from names or URIs."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.domain.reasons import Reason

_SCHEMES = frozenset(
    {
        *("s3", "gs", "hf", "http", "https", "file", "az", "abfs", "abfss", "oci", "modelscope"),
        *("webhdfs", "swebhdfs", "hdfs", "git+https", "git+http"),
    }
)
# From a listing that is cached to a model of hundreds of gigabytes.
_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600)


def scheme_label(uri: str) -> str:
    """The URI's scheme, or "other": what a user types must not make series."""
    scheme = uri.partition("://")[0].lower()
    return scheme if scheme in _SCHEMES else "other"


class AgentMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.bytes = Counter(
            "localmodel_agent_transferred_bytes",
            "Bytes that came over the network, resumed ones not included.",
            ["scheme"],
            registry=registry,
        )
        self.phase_seconds = Histogram(
            "localmodel_agent_phase_seconds",
            "Seconds that copies spent in each phase.",
            ["phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "localmodel_agent_copies_in_flight", "Copies being fetched now.", registry=registry
        )
        self.copies = Gauge(
            "localmodel_agent_copies",
            "Copies of the work list by state.",
            ["state"],
            registry=registry,
        )
        self.outcomes = Counter(
            "localmodel_agent_copies_finished",
            "Attempts to make a copy, by how they ended.",
            ["outcome"],
            registry=registry,
        )
        self.retries = Counter(
            "localmodel_agent_failures",
            "Failed attempts by reason; each is tried again.",
            ["reason"],
            registry=registry,
        )
        self.repairs = Counter(
            "localmodel_agent_damaged_copies",
            "Published copies that were found changed or incomplete.",
            registry=registry,
        )
        self.deduplicated = Counter(
            "localmodel_agent_deduplicated_bytes",
            "Bytes that were on the disk already: linked instead of fetched, or found equal once fetched (compared).",
            ["how"],
            registry=registry,
        )
        self.scrubbed = Counter(
            "localmodel_agent_scrubbed_bytes",
            "Bytes of published copies that were read again in the background.",
            registry=registry,
        )
        self.evictions = Counter(
            "localmodel_agent_evictions", "Copies removed from the disk.", registry=registry
        )
        self.disk = Gauge(
            "localmodel_agent_disk_bytes",
            "The disk that holds the cache.",
            ["what"],
            registry=registry,
        )
        self.status_writes = Counter(
            "localmodel_agent_status_writes",
            "Writes of the LocalModelNode's status.",
            ["outcome"],
            registry=registry,
        )

    def failed(self, reason: Reason) -> None:
        self.retries.labels(reason=reason.value).inc()
        self.outcomes.labels(outcome="failed").inc()
