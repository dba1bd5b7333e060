"""How often the informer asks a server that is silent, broken, overloaded or not there."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.kube.client import KubeClient
from shared.kube.metrics import KubeMetrics
from tests.unit.kube.virtual_time import now
from tests.unit.kube.watching import Watch, red, watching
from tests.unit.kube.wire import (
    ApiServer,
    Cut,
    Silence,
    Step,
    Stream,
    bookmark,
    event,
    listing,
    refusal,
    status,
    write_kubeconfig,
)


async def test_a_silent_server_is_given_up_and_asked_anew(server: ApiServer, watch: Watch) -> None:
    server.say(
        listing(version=10),
        Stream((bookmark(11),), "silence"),
        Stream((event("ADDED", red("a", 12)),), "silence"),
    )
    async with watch() as watched:
        await watched.told(1)
    first, second = (asked.at for asked in server.asked if asked.is_watch)
    # A healthy server sends a bookmark a minute; two missing ones are a dead connection.
    assert 120 < second - first < 140
    assert server.watches == ["10", "11"]


async def test_a_server_that_is_given_up_sooner_is_asked_as_often(
    server: ApiServer, metrics: KubeMetrics, tmp_path: Path
) -> None:
    server.say(listing(version=10))
    client = await KubeClient.connect(
        kubeconfig=write_kubeconfig(tmp_path / "kubeconfig", server.url),
        manager="tester",
        qps=100,
        burst=100,
        watch_silence=5,
    )
    async with watching(client, metrics)():
        await asyncio.sleep(600)
    await client.close()
    times = [asked.at for asked in server.asked if asked.is_watch]
    assert max(after - before for before, after in pairwise(times)) < 6


async def test_a_list_without_an_answer_is_given_up_too(server: ApiServer, watch: Watch) -> None:
    server.say(Silence(), listing(red("a", 1), version=10))
    async with watch() as watched:
        started = now()
        await watched.informer.wait_synced()
        assert now() - started < 60


@pytest.mark.parametrize(
    "broken",
    [
        Stream(),
        Stream(then="cut"),
        Cut(),
        refusal(500),
        refusal(403, "Forbidden"),
        Stream((event("ERROR", status(500)),)),
        Stream((b"<html>\n",)),
        Stream((b"[]\n",)),
        Stream((b'{"type":"ADDED","object":{"spec":{}}}\n',)),
    ],
    ids=[
        "empty",
        "cut",
        "no answer",
        "500",
        "forbidden",
        "error event",
        "no JSON",
        "no event",
        "no object",
    ],
)
async def test_a_server_that_fails_every_watch_is_asked_a_bounded_number_of_times(
    server: ApiServer, watch: Watch, broken: Step
) -> None:
    server.otherwise = lambda asked: broken if asked.is_watch else listing(version=10)
    async with watch():
        await asyncio.sleep(600)
    # Every 15 to 30 s once the backoff has grown.
    # A connection that breaks without an answer is tried once more at once, by the HTTP client.
    times = sorted({round(asked.at, 3) for asked in server.asked if asked.is_watch})
    assert 20 <= len(times) <= 50
    assert len(server.watches) <= 2 * len(times)
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) <= 31
    # Jitter: a fleet that lost its server together does not come back together.
    assert len({round(gap, 2) for gap in gaps[-10:]}) > 5


async def test_an_unreachable_server_is_asked_a_bounded_number_of_times(
    server: ApiServer, watch: Watch
) -> None:
    server.otherwise = lambda _: Cut()
    async with watch() as watched:
        await asyncio.sleep(600)
        assert not watched.informer.synced
    assert len(server.asked) <= 300


async def test_an_overloaded_server_is_left_alone_as_long_as_it_asks_and_lists_nothing_again(
    server: ApiServer, watch: Watch
) -> None:
    server.say(
        listing(red("a", 1), version=10),
        refusal(429, "TooManyRequests", Retry_After="45"),
        Stream((event("ADDED", red("b", 11)),), "silence"),
    )
    async with watch() as watched:
        await watched.told(2)
    first, second = (asked.at for asked in server.asked if asked.is_watch)
    assert second - first >= 45
    assert server.watches == ["10", "10"]
    assert len(server.lists) == 1


async def test_only_streams_that_broke_are_counted_as_breaks(
    server: ApiServer, watch: Watch, registry: CollectorRegistry
) -> None:
    server.say(listing(version=10), Stream((bookmark(11),)), Stream(then="cut"), Stream())
    async with watch():
        await server.until(5)
    labels = {"resource": "things"}
    assert registry.get_sample_value("informer_watch_breaks_total", labels) == 1
    assert registry.get_sample_value("informer_lists_total", labels) == 1
