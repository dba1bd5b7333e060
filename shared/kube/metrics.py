"""Metrics of the Kubernetes layer, named as client-go and controller-runtime name them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 5, 15, 30, 60)


class KubeMetrics:
    """Registered once per process; labels come from code, never from object names."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "rest_client_requests",
            "Requests to the API server, by HTTP status (0: no answer) and what was asked for.",
            ["code", "method", "verb", "resource"],
            registry=registry,
        )
        self.latency = Histogram(
            "rest_client_request_duration_seconds",
            "Seconds until the API server answered.",
            ["verb"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.throttled = Counter(
            "rest_client_rate_limiter_seconds",
            "Seconds that requests waited for the client's own rate limit.",
            registry=registry,
        )
        self.relists = Counter(
            "informer_lists", "Full lists, by resource.", ["resource"], registry=registry
        )
        self.watch_breaks = Counter(
            "informer_watch_breaks",
            "Watch streams that ended other than by the server's own timeout.",
            ["resource"],
            registry=registry,
        )
        self.refused_objects = Counter(
            "informer_refused_objects",
            "Objects that could not be read and are left out.",
            ["resource"],
            registry=registry,
        )
        self.queue_depth = Gauge("workqueue_depth", "Keys that wait.", ["name"], registry=registry)
        self.queue_adds = Counter(
            "workqueue_adds", "Keys that were added.", ["name"], registry=registry
        )
        self.queue_retries = Counter(
            "workqueue_retries",
            "Keys that were added again after a failure.",
            ["name"],
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "workqueue_queue_duration_seconds",
            "Seconds that a key waited before it was worked on.",
            ["name"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.work_seconds = Histogram(
            "workqueue_work_duration_seconds",
            "Seconds that a key was worked on.",
            ["name"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.unfinished_seconds = Gauge(
            "workqueue_unfinished_work_seconds",
            "Seconds of work in progress, over all keys.",
            ["name"],
            registry=registry,
        )
        self.longest_seconds = Gauge(
            "workqueue_longest_running_processor_seconds",
            "Seconds that the key is worked on that is worked on longest.",
            ["name"],
            registry=registry,
        )
        self.workers = Gauge(
            "controller_runtime_max_concurrent_reconciles",
            "Passes that may run at a time.",
            ["controller"],
            registry=registry,
        )
        self.active_workers = Gauge(
            "controller_runtime_active_workers",
            "Passes that run now.",
            ["controller"],
            registry=registry,
        )
        self.reconcile_errors = Counter(
            "controller_runtime_reconcile_errors",
            "Passes that failed; each is tried again.",
            ["controller"],
            registry=registry,
        )
        self.reconciles = Counter(
            "controller_runtime_reconcile",
            "Passes, by controller and result (success, requeue_after, error).",
            ["controller", "result"],
            registry=registry,
        )
        self.reconcile_seconds = Histogram(
            "controller_runtime_reconcile_time_seconds",
            "Seconds of one pass.",
            ["controller"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.events = Counter(
            "event_recorder_events",
            "Events, by outcome (created, counted, dropped, failed).",
            ["outcome"],
            registry=registry,
        )
        self.leader = Gauge(
            "leader_election_master_status",
            "1 while this replica leads.",
            ["name"],
            registry=registry,
        )

    def passed(self, controller: str, result: str, seconds: float) -> None:
        """A pass ended."""
        self.reconciles.labels(controller, result).inc()
        self.reconcile_seconds.labels(controller).observe(seconds)
        self.reconcile_errors.labels(controller).inc(result == "error")
