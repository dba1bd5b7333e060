"""The process's metrics registry, with what every process shows."""

import asyncio
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

DISTRIBUTION = "localmodel"

_LOOK_SECONDS = 1.0
# From a loop at rest to one that has lost its lease.
_LAG = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 15)


def installed_version() -> str:
    """Version of the installed distribution, or `unknown` from a bare checkout."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def new_registry(program: str) -> CollectorRegistry:
    """A registry of our own: the library's global one would tie tests and programs together."""
    # A second series for each counter and histogram, with a time that Prometheus does not need.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    Info("localmodel_build", "Version of the program.", registry=registry).info(
        {"program": program, "version": installed_version()}
    )
    return registry


class LoopLag:
    """How late the event loop gets to what is due: above about a second, leases and probes are in danger."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "localmodel_event_loop_lag_seconds",
            "Seconds by which the event loop was late, measured once a second.",
            buckets=_LAG,
            registry=registry,
        )

    async def run(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LOOK_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)
            self._seconds.observe(max(loop.time() - due, 0.0))
