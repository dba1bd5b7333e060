"""What probes, Prometheus and people get."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client import Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from shared.ops.metrics import LoopLag, new_registry
from shared.ops.server import HealthServer


class Program:
    """What a program tells its server."""

    def __init__(self) -> None:
        self.registry = new_registry("tester")
        self.dead: str | None = None
        self.waiting: str | None = None
        self.state: dict[str, Any] = {}
        self.url = ""


@pytest.fixture
async def program() -> AsyncIterator[Program]:
    made = Program()
    server = HealthServer(
        host="127.0.0.1",
        port=0,
        registry=made.registry,
        live=lambda: made.dead,
        ready=lambda: made.waiting,
        state=lambda: made.state,
    )
    made.url = f"http://127.0.0.1:{await server.start()}"
    yield made
    await server.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(made, "/healthz")


async def get(program: Program, path: str, method: str = "GET") -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, program.url + path) as answer,
    ):
        return answer.status, await answer.text()


async def test_probes_say_yes_or_why_not(program: Program) -> None:
    assert await get(program, "/healthz") == (200, "ok\n")
    assert await get(program, "/readyz") == (200, "ok\n")
    program.waiting = "waiting for nodes"
    assert await get(program, "/healthz") == (200, "ok\n")
    assert await get(program, "/readyz") == (503, "waiting for nodes\n")
    program.waiting, program.dead = None, "the loop stands still"
    assert await get(program, "/healthz") == (503, "the loop stands still\n")


async def test_metrics_are_what_prometheus_reads(program: Program) -> None:
    Counter("passes", "Passes.", ["result"], registry=program.registry).labels("ok").inc(3)
    status, text = await get(program, "/metrics")
    assert status == 200
    parsed = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}
    (sample,) = (s for s in families["passes"].samples if s.name == "passes_total")
    assert (sample.labels, sample.value) == ({"result": "ok"}, 3)
    (build,) = families["localmodel_build"].samples
    assert build.labels["program"] == "tester"
    (memory,) = families["process_resident_memory_bytes"].samples
    assert memory.value > 0


async def test_state_is_json_whatever_it_holds(program: Program) -> None:
    program.state = {"leading": True, "by group": {3: {"x"}}, "left": math.inf}
    status, text = await get(program, "/debug/state")
    assert status == 200
    assert '"leading": true' in text
    # Where the threads and tasks are, this test's own among them.
    assert "MainThread" in text
    assert "test_state_is_json_whatever_it_holds" in text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("POST", "/healthz", 405), ("GET", "/debug/../metricsx", 404)],
)
async def test_nothing_else_is_served(
    program: Program, method: str, path: str, status: int
) -> None:
    assert (await get(program, path, method))[0] == status


def test_two_programs_in_one_process_share_no_metric() -> None:
    for _ in range(2):
        Counter("passes", "Passes.", registry=new_registry("tester"))


async def test_a_loop_that_is_late_is_seen(program: Program) -> None:
    lag = LoopLag(program.registry)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(lag.run())
        await asyncio.sleep(0.1)
        time.sleep(1.3)  # noqa: ASYNC251 — this is the lateness
        await asyncio.sleep(0.1)
        task.cancel()
    _, text = await get(program, "/metrics")
    assert 'localmodel_event_loop_lag_seconds_bucket{le="0.1"} 0.0' in text
    assert 'localmodel_event_loop_lag_seconds_bucket{le="1.0"} 1.0' in text
