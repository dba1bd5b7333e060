"""The process's metrics registry, with what every process shows."""

from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)

DISTRIBUTION = "localmodel"


def installed_version() -> str:
    """Version of the installed distribution, or `unknown` from a bare checkout."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def new_registry(program: str) -> CollectorRegistry:
    """A registry of our own: the library's global one would tie tests and programs together."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    Info("localmodel_build", "Version of the program.", registry=registry).info(
        {"program": program, "version": installed_version()}
    )
    return registry
