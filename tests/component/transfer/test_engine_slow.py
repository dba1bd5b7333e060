"""Slow and breaking connections: what has come is kept, and who sends next to nothing is left."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from agent.errors import Retryable
from agent.transfer import attempts, silence
from shared.domain.reasons import Reason
from tests.component.transfer.fetching import PART, Fetching, Signer, remote
from tests.support.faults import FaultServer, Reply, Request, ranged

CONTENT = os.urandom(2 * PART)
SOME = PART + PART // 2


@pytest.mark.parametrize("fault", ["cut_after", "stall_after"])
async def test_what_came_before_a_connection_broke_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(silence, "SILENCE_SECONDS", 0.5)

    def answer(request: Request) -> Reply:
        reply = ranged(CONTENT, request)
        broken = {fault: SOME} if request.number == 0 else {}
        return Reply(reply.status, reply.headers, reply.body, **broken)  # type: ignore[arg-type]

    fetching = Fetching(tmp_path, connections=1)
    fetching.part_size = len(CONTENT)
    with FaultServer(answer) as server:
        await fetching.fetch([remote("f", CONTENT)], Signer(server.url))
        assert [request.range for request in server.requests] == [
            (0, len(CONTENT)),
            (SOME, len(CONTENT)),
        ]
    assert fetching.content("f") == CONTENT


async def test_bytes_of_a_slow_link_are_on_disk_soon_after_they_came(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        reply = ranged(CONTENT, request)
        return Reply(reply.status, reply.headers, reply.body, rate=PART // 4)

    fetching = Fetching(tmp_path, connections=1)
    fetching.part_size = len(CONTENT)
    with FaultServer(answer) as server:
        task = asyncio.create_task(fetching.fetch([remote("f", CONTENT)], Signer(server.url)))
        await asyncio.sleep(3)
        assert fetching.moved > 0
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize("size", [20_000, len(CONTENT)])
async def test_a_server_that_sends_a_byte_now_and_then_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """It is never silent for long, and would take hours."""
    monkeypatch.setattr(silence, "SILENCE_SECONDS", 0.5)

    def answer(request: Request) -> Reply:
        reply = ranged(CONTENT[:size], request)
        rate = 20 if request.number == 0 else None
        return Reply(reply.status, reply.headers, reply.body, rate=rate)

    fetching = Fetching(tmp_path)
    started = time.monotonic()
    with FaultServer(answer) as server:
        await fetching.fetch([remote("f", CONTENT[:size])], Signer(server.url))
    assert fetching.content("f") == CONTENT[:size]
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 206 X\r\nX-Long: " + b"x" * 10_000,
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 10_000,
        b"HTTP/1.1 500 X\r\nContent-Length: 10000\r\n\r\n" + b"x" * 10_000,
    ],
    ids=["head", "chunk", "refusal"],
)
async def test_a_server_that_drips_around_the_bytes_is_left_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    monkeypatch.setattr(silence, "SILENCE_SECONDS", 0.5)

    def answer(request: Request) -> Reply:
        if request.number == 0:
            return Reply(raw=raw, rate=100)
        return ranged(CONTENT, request)

    fetching = Fetching(tmp_path, connections=1)
    fetching.part_size = len(CONTENT)
    started = time.monotonic()
    with FaultServer(answer) as server:
        await fetching.fetch([remote("f", CONTENT)], Signer(server.url))
    assert fetching.content("f") == CONTENT
    assert time.monotonic() - started < 20


async def test_a_source_that_only_drips_is_a_failure_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(attempts, "_BACKOFF_SECONDS", (0.01, 0.02))

    def answer(request: Request) -> Reply:
        reply = ranged(CONTENT, request)
        return Reply(reply.status, reply.headers, reply.body, rate=20)

    with FaultServer(answer) as server, pytest.raises(Retryable) as caught:
        await Fetching(tmp_path).fetch([remote("f", CONTENT)], Signer(server.url))
    assert caught.value.reason is Reason.SOURCE_UNREACHABLE
    assert "less than 1024 bytes a second" in caught.value.message


async def test_our_own_limit_is_no_slowness_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(silence, "LEAST_RATE", 1 << 20)
    fetching = Fetching(tmp_path, connections=1)
    fetching.bytes_per_second = PART // 2
    with FaultServer(lambda r: ranged(CONTENT, r)) as server:
        await fetching.fetch([remote("f", CONTENT)], Signer(server.url))
        assert len(server.requests) == 2
    assert fetching.content("f") == CONTENT
