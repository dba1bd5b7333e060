"""A cluster of three nodes behind an API server, for runs of the program."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.cli.fleet import LLAMA, Cluster, cache, done, failed, group, loading, node
from tests.unit.cli.program import serving
from tests.unit.kube.wire import ApiServer, write_kubeconfig


@pytest.fixture
def cluster() -> Cluster:
    """llama is on a, on its way to b, and refused to c; team/tiny waits for all."""
    made = Cluster()
    made.put("group", group(limit="1Ti"))
    for name in "abc":
        made.put("node", node(name))
    made.put("cache", cache("llama", size="130Gi", uri=LLAMA))
    made.put("cache", cache("tiny", namespace="team"))
    made.settle()
    made.report("a", done("llama"))
    made.report("b", loading("llama", 0.25))
    made.report("c", failed("llama", "AccessDenied", "403 \x1b]0;pwned\x07<b>\x9b2J\u202e"))
    made.settle()
    return made


@pytest.fixture
async def server(cluster: Cluster) -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        running.otherwise = serving(cluster)
        yield running


@pytest.fixture
def env(server: ApiServer, tmp_path: Path) -> dict[str, str]:
    return {"KUBECONFIG": str(write_kubeconfig(tmp_path / "kubeconfig", server.url))}
