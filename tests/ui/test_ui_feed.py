"""What goes over the wire: headers, the stream, and what a slow or a surplus browser gets."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from controller.ui.feed import Feed
from controller.ui.sight import Sight
from tests.ui import fleets

POLICY = ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'")  # fmt: skip
KEYS = [fleets.cache_name(number) for number in range(3)]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
        yield session


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for raw in answer.content:
        field, _, value = raw.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


async def test_every_answer_is_held_to_the_policy_and_nothing_but_get_is_served(
    http: aiohttp.ClientSession,
) -> None:
    async with fleets.served(fleets.fleet(3, 2)) as url:
        names = [
            "",
            "app.js",
            "style.css",
            "icon.svg",
            "cache?name=model-000",
            "node?name=node-0001",
        ]
        for name in (*names, "cache?name=nothing", "events"):
            async with http.get(url + name) as answer:
                assert answer.status == (404 if "nothing" in name else 200)
                policy = answer.headers["Content-Security-Policy"]
                assert all(part in policy for part in POLICY)
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "no-referrer"
                assert answer.headers["X-Frame-Options"] == "DENY"
        for name in ("", "events", "cache"):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                async with http.request(method, url + name) as answer:
                    assert answer.status == 405
        async with http.get(url + "../../settings.py") as answer:
            assert answer.status == 404
        async with http.get(url.removesuffix("/"), allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (308, "ui/")


async def test_first_everything_then_only_what_changed(http: aiohttp.ClientSession) -> None:
    world = fleets.fleet(100, 200)
    keys = [fleets.cache_name(number) for number in range(100)]
    async with fleets.served(world) as url, http.get(url + "events") as answer:
        stream = events(answer)
        name, everything = await anext(stream)
        assert name == "snapshot"
        assert len(everything["nodes"]) == 200
        assert {len(cells) for _, _, cells in everything["nodes"]} == {100}
        assert len(json.dumps(everything, separators=(",", ":"))) < 200_000
        done = {"state": "ModelDownloading", "reason": "Downloading", "bytesDone": fleets.GIB // 4}
        fleets.tell(world, "node-0005", keys, model_003=done)
        name, changes = await anext(stream)
        assert name == "changes"
        slot = next(slot for slot, info, _ in everything["nodes"] if info["name"] == "node-0005")
        assert [(changes["cells"][0], changes["cells"][2] % 128)] == [(slot, 25)]
        assert len(changes["cells"]) == 3
        assert len(json.dumps(changes)) < 500


async def test_a_browser_that_does_not_read_is_cut_and_begins_anew(
    http: aiohttp.ClientSession,
) -> None:
    """What waits for it is bounded; others are not held up."""
    world = fleets.fleet(50, 150)
    keys = [fleets.cache_name(number) for number in range(50)]
    async with fleets.served(world, patience=1) as url:
        port = urlsplit(url).port
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, ("127.0.0.1", port))
        await loop.sock_sendall(slow, b"GET /ui/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with slow:
            async with http.get(url + "events") as quick:
                stream = events(quick)
                assert (await anext(stream))[0] == "snapshot"
                for turn in range(1, 3):
                    done = {"state": "ModelDownloading", "bytesDone": turn * fleets.GIB // 100}
                    for number in range(150):
                        changed = {key.replace("-", "_"): done for key in keys}
                        fleets.tell(world, fleets.node_name(number), keys, **changed)
                    assert (await anext(stream))[0] == "changes"
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(15):  # a stream that goes on would not end
                    while await loop.sock_recv(slow, 65536):
                        pass
        async with http.get(url + "events") as again:
            assert (await anext(events(again)))[0] == "snapshot"


async def test_more_browsers_than_it_can_serve_are_told_to_come_back(
    http: aiohttp.ClientSession,
) -> None:
    async with fleets.served(fleets.fleet(2, 2)) as url:
        watching = [await http.get(url + "events") for _ in range(32)]
        assert {answer.status for answer in watching} == {200}
        async with http.get(url + "events") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"]
        watching.pop().close()
        async with asyncio.timeout(20):
            while (answer := await http.get(url + "events")).status != 200:
                answer.close()
                await asyncio.sleep(0.5)
        for each in (*watching, answer):
            each.close()


async def test_who_does_not_know_the_cluster_yet_says_so(http: aiohttp.ClientSession) -> None:
    waiting = "waiting for nodes"
    async with fleets.served(fleets.fleet(1, 1), waiting=waiting) as url:
        for name in ("events", "cache?name=model-000"):
            async with http.get(url + name) as answer:
                assert (answer.status, await answer.text()) == (503, f"{waiting}\n")


async def test_a_bug_in_the_page_cuts_the_browsers_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("controller.ui.feed._LONGEST_PAUSE_SECONDS", 0.1)
    broken = False

    def head() -> dict[str, Any]:
        if broken:
            raise KeyError("a bug")
        return {}

    feed = Feed(Sight(fleets.fleet(2, 2), leading=lambda: True), head)
    running = asyncio.create_task(feed.run())
    try:
        async with asyncio.timeout(20):
            first = await feed.subscribe()
            assert first is not None
            assert b"event: snapshot" in (await first.next() or b"")
            broken = True
            assert await first.next() is None
            broken = False
            again = await feed.subscribe()
            assert again is not None
            assert b"event: snapshot" in (await again.next() or b"")
        assert not running.done()
    finally:
        running.cancel()
