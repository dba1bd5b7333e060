"""Time is virtual here, and the API server is a script."""

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.kube.client import KubeClient
from shared.kube.metrics import KubeMetrics
from tests.unit.kube.virtual_time import VirtualTimeLoop
from tests.unit.kube.watching import Watch, watching
from tests.unit.kube.wire import ApiServer, write_kubeconfig


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], VirtualTimeLoop]]:
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        yield running


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> KubeMetrics:
    return KubeMetrics(registry)


@pytest.fixture
async def client(
    server: ApiServer, metrics: KubeMetrics, tmp_path: Path
) -> AsyncIterator[KubeClient]:
    """Of a manager named `tester`; its own rate limit is far above what a test sends."""
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", server.url)
    connected = await KubeClient.connect(
        kubeconfig=kubeconfig, manager="tester", qps=10_000, burst=10_000, metrics=metrics
    )
    yield connected
    await connected.close()


@pytest.fixture
def watch(client: KubeClient, metrics: KubeMetrics) -> Watch:
    return watching(client, metrics)
