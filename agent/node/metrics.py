"""What the agent counts. Labels come from enums and known schemes only, never from names or URIs."""

from collections import Counter as Tally
from collections.abc import Collection, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.copying.progress import CopyWatch, Phase
from agent.sources.registry import SCHEMES
from agent.transfer.engine import Engine
from shared.api.node import LocalModelNodeStatus, ModelState
from shared.domain.reasons import Reason
from shared.domain.reasons_of_copies import RETRIED, STALLED

OTHER: Final = "other"
FAILURES: Final = tuple(row.reason for chapter in (RETRIED, STALLED) for row in chapter.rows)
"""Why an attempt may fail."""
MOVING: Final = (Reason.RESOLVING, Reason.DOWNLOADING, Reason.VERIFYING, Reason.UNPACKING)
"""What a copy in flight may be at."""
# From a listing that is cached to a model of hundreds of gigabytes.
_SECONDS: Final = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600)


def scheme_label(uri: str) -> str:
    """The URI's scheme, or "other": what a user types must not make series."""
    scheme = uri.partition("://")[0].lower()
    return scheme if scheme in SCHEMES else OTHER


class AgentMetrics:
    """Counters begin at 0 for every label value, so that the first failure is seen as an increase."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.bytes = Counter(
            "localmodel_agent_transferred_bytes",
            "Bytes that came over the network, resumed ones not included.",
            ["scheme"],
            registry=registry,
        )
        self.phase_seconds = Histogram(
            "localmodel_agent_phase_seconds",
            "Seconds that published copies spent in each phase.",
            ["phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "localmodel_agent_copies_in_flight", "Copies being fetched now.", registry=registry
        )
        self.rate = Gauge(
            "localmodel_agent_transfer_bytes_per_second",
            "Rate over all copies being fetched, of about the last 15 seconds.",
            registry=registry,
        )
        self.stands = Gauge(
            "localmodel_agent_no_progress_seconds",
            "Of the copies in flight, by what they are at: longest time without a byte or another step.",
            ["reason"],
            registry=registry,
        )
        self.copies = Gauge(
            "localmodel_agent_copies",
            "Copies of the work list by state; ModelDownloadPending ones are queued.",
            ["state"],
            registry=registry,
        )
        self.failing = Gauge(
            "localmodel_agent_copies_failing",
            "Copies whose last attempt failed, by reason; until they are published, so while they are tried again too.",
            ["reason"],
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
            "The disk that holds the cache: its capacity, what is available to models, kept free, used by models, reserved for copies in flight.",
            ["what"],
            registry=registry,
        )
        self.storage_ready = Gauge(
            "localmodel_agent_storage_ready",
            "1 while the cache folder can be used.",
            registry=registry,
        )
        self.status_writes = Counter(
            "localmodel_agent_status_writes",
            "Writes of the LocalModelNode's status.",
            ["outcome"],
            registry=registry,
        )
        self._begin()

    def _begin(self) -> None:
        for scheme in (*SCHEMES, OTHER):
            self.bytes.labels(scheme=scheme)
        for phase in Phase:
            self.phase_seconds.labels(phase=phase.value)
        for reason in FAILURES:
            self.retries.labels(reason=reason.value)
        for outcome in ("published", "failed", "cancelled"):
            self.outcomes.labels(outcome=outcome)
        for how in ("linked", "compared"):
            self.deduplicated.labels(how=how)
        for outcome in ("written", "failed", "gone"):
            self.status_writes.labels(outcome=outcome)

    def follow(self, engine: Engine) -> None:
        """Shows the engine's figures too, from now on; once."""
        EngineMetrics(engine, self._registry)

    def published(self, watch: CopyWatch) -> None:
        """A copy was made."""
        self.outcomes.labels(outcome="published").inc()
        self.deduplicated.labels(how="linked").inc(watch.reused)
        self.deduplicated.labels(how="compared").inc(watch.shared)
        for phase, seconds in watch.spent().items():
            self.phase_seconds.labels(phase=phase.value).observe(seconds)

    def failed(self, reason: Reason) -> None:
        self.retries.labels(reason=reason.value).inc()
        self.outcomes.labels(outcome="failed").inc()

    def moving(self, watches: Collection[CopyWatch], *, now: float) -> None:
        """The copies in flight at this moment; `now` by the loop's clock."""
        self.in_flight.set(len(watches))
        self.rate.set(sum(watch.rate.per_second() or 0 for watch in watches))
        longest = dict.fromkeys(MOVING, 0.0)
        for watch in watches:
            stands = watch.stands_since(now)
            longest[watch.phase] = max(longest.get(watch.phase, 0.0), stands)
        for reason in MOVING:
            self.stands.labels(reason=reason.value).set(longest[reason])

    def reported(self, status: LocalModelNodeStatus, failing: Iterable[str]) -> None:
        """What the node's status says. failing: the reason of each copy whose last attempt failed."""
        models = status.models or ()
        states = Tally(model.state for model in models)
        for state in ModelState:
            self.copies.labels(state=state.value or "Evicting").set(states[state])
        reasons = Tally(failing)
        for reason in FAILURES:
            self.failing.labels(reason=reason.value).set(reasons[reason.value])
        if status.storage is not None:
            for what, value in status.storage.model_dump().items():
                self.disk.labels(what=what.removesuffix("_bytes")).set(value)


class EngineMetrics(Collector):
    """Read from the engine whenever Prometheus asks."""

    def __init__(self, engine: Engine, registry: CollectorRegistry) -> None:
        self._engine = engine
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        figures = self._engine.figures()
        connections = GaugeMetricFamily(
            "localmodel_agent_connections",
            "Connections to sources: in use, worth while at the pace that was measured, allowed by the settings.",
            labels=["what"],
        )
        for what, value in zip(("used", "worth_while", "limit"), figures.connections, strict=True):
            connections.add_metric([what], value)
        yield connections
        yield GaugeMetricFamily(
            "localmodel_agent_ranges_waiting",
            "Ranges of files, and batches of small files, that wait for a connection.",
            value=figures.waiting,
        )
        retries = CounterMetricFamily(
            "localmodel_agent_retries",
            "Ranges that were asked for again while a copy went on, by reason.",
            labels=["reason"],
        )
        for reason in FAILURES:
            retries.add_metric([reason.value], figures.retries[reason])
        yield retries
        yield CounterMetricFamily(
            "localmodel_agent_verification_failures",
            "Fetched files whose content was not what the source states; what is wrong is fetched once more.",
            value=figures.mismatches,
        )
