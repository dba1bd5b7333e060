"""What fetches may use together, how it is shared, and how it follows what the network gives."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.policy import SourcePolicy
from agent.transfer import receive
from agent.transfer.engine import Budget, Engine, FetchJob
from agent.transfer.pages import Writer
from agent.transfer.progress import Progress
from tests.component.transfer.fetching import Fetching, Signer, remote
from tests.support.faults import FaultServer, Reply, Request, ranged
from tests.support.latency import Link
from tests.support.processes import wait_until
from tests.support.servers.web import WebServer

MIB = 1 << 20


def paced(content: bytes, rate: int) -> Callable[[Request], Reply]:
    """Each answer comes at so many bytes a second."""

    def answer(request: Request) -> Reply:
        reply = ranged(content, request)
        return Reply(reply.status, reply.headers, reply.body, rate=rate)

    return answer


def job(name: str, content: bytes, url: str, folder: Path) -> FetchJob:
    return FetchJob(
        name, (remote(name, content),), (Signer(url),), folder / name, folder / f"{name}-journal"
    )


async def until(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, seconds=10, what=what, interval=0.01)


@contextmanager
def engine(budget: Budget, *, part_size: int = MIB) -> Iterator[Engine]:
    made = Engine(budget, policy=SourcePolicy.unrestricted(), part_size=part_size)
    yield made
    assert made.describe()["fetches"] == []


async def test_the_rate_is_kept_and_can_be_changed_while_bytes_flow(tmp_path: Path) -> None:
    content = os.urandom(24 * MIB)
    progress = Progress()
    with (
        FaultServer(lambda r: ranged(content, r)) as server,
        engine(Budget(connections=4, bytes_per_second=4 * MIB)) as made,
    ):
        started = time.monotonic()
        fetch = asyncio.create_task(made.fetch(job("f", content, server.url, tmp_path), progress))
        await asyncio.sleep(1.5)
        slow = progress.snapshot().bytes_moved
        assert slow <= 4 * MIB * (time.monotonic() - started) + 4 * 2 * MIB
        made.set_budget(Budget(connections=4))
        await asyncio.wait_for(fetch, 3)
        assert slow < len(content) / 2
        await made.close()
    assert (tmp_path / "f/f").read_bytes() == content


async def test_connections_can_be_changed_while_bytes_flow(tmp_path: Path) -> None:
    content = os.urandom(24 * MIB)
    with FaultServer(paced(content, 4 * MIB)) as server, engine(Budget(connections=2)) as made:
        fetch = asyncio.create_task(made.fetch(job("f", content, server.url, tmp_path), Progress()))
        await asyncio.to_thread(server.wait_for, 4)
        assert server.accepted <= 2
        assert made.describe()["connections"]["used"] <= 2
        made.set_budget(Budget(connections=8))
        await until(lambda: server.accepted > 3, "more connections")
        made.set_budget(Budget(connections=8, open_files=1))
        await until(lambda: made.describe()["connections"]["used"] <= 1, "fewer")
        made.set_budget(Budget(connections=8, bytes_in_flight=6 * MIB))
        assert made.describe()["connections"]["limit"] == 3
        await fetch
        await made.close()
    assert (tmp_path / "f/f").read_bytes() == content


class SlowDisk:
    """Writes wait until they are let go, and take their time then too. waiting: bytes that threads have for it; most: at a time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.waiting = self.most = 0
        self._write, self._lock = os.pwrite, threading.Lock()
        patch.setattr(os, "pwrite", self._pwrite)

    def _pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        with self._lock:
            self.waiting += len(data)
            self.most = max(self.most, self.waiting)
        self.go.wait(60)
        time.sleep(0.02)
        with self._lock:
            self.waiting -= len(data)
        return self._write(fd, data, offset)


async def test_no_more_bytes_wait_for_the_disk_than_may_be_in_flight_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(64 * MIB)
    disk = SlowDisk(monkeypatch)
    budget = Budget(connections=16, bytes_in_flight=4 * MIB)
    with (
        FaultServer(lambda r: ranged(content, r)) as server,
        engine(budget, part_size=4 * MIB) as made,
    ):
        fetch = asyncio.create_task(made.fetch(job("f", content, server.url, tmp_path), Progress()))
        await until(lambda: disk.waiting > 2 * MIB, "two buffers")
        await asyncio.sleep(1)
        assert disk.most <= 4 * MIB
        made.set_budget(replace(budget, bytes_in_flight=8 * MIB))
        await until(lambda: disk.waiting > 4 * MIB, "more of them")
        await asyncio.sleep(1)
        assert disk.most <= 8 * MIB
        made.set_budget(replace(budget, bytes_in_flight=2 * MIB))
        disk.go.set()
        await until(lambda: made.describe()["connections"]["used"] <= 1, "fewer")
        disk.most = 0
        await fetch
        assert 0 < disk.most <= 2 * MIB
        await made.close()
    assert (tmp_path / "f/f").read_bytes() == content


async def test_two_copies_that_begin_one_after_the_other_have_the_same_share(
    tmp_path: Path,
) -> None:
    content = os.urandom(48 * MIB)
    first, second = Progress(), Progress()
    with (
        FaultServer(lambda r: ranged(content, r)) as server,
        engine(Budget(connections=4, bytes_per_second=12 * MIB)) as made,
    ):
        one = asyncio.create_task(made.fetch(job("one", content, server.url, tmp_path), first))
        await asyncio.to_thread(server.wait_for, 6)
        other = asyncio.create_task(made.fetch(job("two", content, server.url, tmp_path), second))
        await until(lambda: second.snapshot().bytes_moved >= 3 * MIB, "a beginning")
        before = first.snapshot().bytes_moved, second.snapshot().bytes_moved
        await asyncio.sleep(1.5)
        mine = first.snapshot().bytes_moved - before[0]
        theirs = second.snapshot().bytes_moved - before[1]
        one.cancel()
        other.cancel()
        await asyncio.gather(one, other, return_exceptions=True)
        await made.close()
    assert 0.5 <= mine / theirs <= 2


async def test_a_straggler_is_helped_by_connections_that_have_nothing_to_do(
    tmp_path: Path,
) -> None:
    """The first connection would take twelve seconds for its half of the file."""
    content = os.urandom(48 * MIB)

    def answer(request: Request) -> Reply:
        reply = ranged(content, request)
        rate = 2 * MIB if request.number == 0 else None
        return Reply(reply.status, reply.headers, reply.body, rate=rate)

    progress = Progress()
    with FaultServer(answer) as server, engine(Budget(), part_size=24 * MIB) as made:
        started = time.monotonic()
        await made.fetch(job("f", content, server.url, tmp_path), progress)
        took = time.monotonic() - started
        await made.close()
    assert (tmp_path / "f/f").read_bytes() == content
    assert took < 8
    assert progress.snapshot().bytes_done == len(content)
    # What was asked for and then left to others comes twice at most as far as it was under way.
    assert progress.snapshot().bytes_moved == len(content)


async def test_connections_are_added_while_each_brings_more(tmp_path: Path) -> None:
    """Each connection brings 1 MiB/s: four alone would take 16 s."""
    content = os.urandom(64 * MIB)
    with (
        FaultServer(paced(content, MIB)) as server,
        engine(Budget(connections=64), part_size=MIB) as made,
    ):
        started = time.monotonic()
        await made.fetch(job("f", content, server.url, tmp_path), Progress())
        took = time.monotonic() - started
        assert server.accepted > 8
        await made.close()
    assert took < 10


async def test_what_is_fetched_at_once_shares_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two models fits into an eighth of memory, both together do not."""
    written: dict[str, list[bool]] = {"a": [], "b": []}

    class Watched(Writer):
        def __init__(self, fd: int, *, direct: Callable[[], bool]) -> None:
            name = Path(f"/proc/self/fd/{fd}").readlink().name

            def asked() -> bool:
                written[name].append(direct())
                return written[name][-1]

            super().__init__(fd, direct=asked)

    monkeypatch.setattr(receive, "Writer", Watched)
    monkeypatch.setattr("agent.transfer.pages.cache_memory", lambda: 8 * 40 * MIB)
    content = os.urandom(32 * MIB)
    budget = Budget(connections=4)
    with FaultServer(paced(content, 4 * MIB)) as server, engine(budget, part_size=MIB) as made:
        first = asyncio.create_task(made.fetch(job("a", content, server.url, tmp_path), Progress()))
        await until(lambda: bool(written["a"]), "a write")
        assert set(written["a"]) == {False}
        alone = len(written["a"])
        await made.fetch(job("b", content, server.url, tmp_path), Progress())
        assert set(written["b"]) == {True}
        await first
        assert written["a"][alone + 1 :] == sorted(written["a"][alone + 1 :])
        assert written["a"][-1]
        await made.fetch(job("b", content, server.url, tmp_path / "again"), Progress())
        assert not written["b"][-1]
        await made.close()


@pytest.mark.parametrize("small", [False, True])
async def test_a_long_link_is_filled_as_well_as_a_short_one(
    tmp_path: Path, web_server: WebServer, small: bool
) -> None:
    """The same proxy with and without 40 ms between: what it costs itself cancels out."""
    count, size = (600, 2000) if small else (4, 24 * MIB)
    files = {f"f{n}": os.urandom(size) for n in range(count)}
    for path, content in files.items():
        web_server.put(f"far/{path}", content)
    port = int(web_server.url.rpartition(":")[2])
    took = {}
    for delay in (0.0, 0.02):
        with Link(port, delay=delay, log=tmp_path / "link.log") as link:
            fetching = Fetching(tmp_path / str(delay), connections=64)
            fetching.part_size = 8 * MIB
            started = time.monotonic()
            await fetching.fetch(
                [remote(path, content) for path, content in files.items()],
                Signer(f"http://127.0.0.1:{link.port}/far"),
            )
            took[delay] = time.monotonic() - started
        assert all(fetching.content(path) == content for path, content in files.items())
    # Beginning costs a few round trips; one at a time, small files alone would take 24 s.
    assert took[0.02] <= 2 * took[0.0] + (2.0 if small else 0.5)


@contextmanager
def blackhole() -> Iterator[int]:
    """A port at which nobody ever answers an attempt to connect."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, _filling(server):
        yield server.getsockname()[1]


@contextmanager
def _filling(server: socket.socket) -> Iterator[None]:
    waiting = []
    for _ in range(4):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(server.getsockname())
        waiting.append(sock)
    try:
        yield
    finally:
        for sock in waiting:
            sock.close()


@contextmanager
def mute() -> Iterator[int]:
    """A port that takes connections and says nothing, not even for TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("size", [10, 10 * MIB])
@pytest.mark.parametrize(
    ("place", "scheme"), [(blackhole, "http"), (mute, "http"), (mute, "https")]
)
async def test_cancelling_ends_threads_wherever_they_wait(
    tmp_path: Path, place: object, scheme: str, size: int
) -> None:
    def threads() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("transfer")]

    with place() as port:  # type: ignore[operator]
        attempt = asyncio.create_task(
            Fetching(tmp_path).fetch(
                [remote("f", bytes(size))], Signer(f"{scheme}://127.0.0.1:{port}")
            )
        )
        await until(lambda: bool(threads()), "a thread")
        await asyncio.sleep(0.3)
        started = time.monotonic()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await until(lambda: not threads(), "the end of all threads")
        assert time.monotonic() - started < 2


async def test_only_what_has_no_size_asks_for_room_and_for_what_it_grows_by(tmp_path: Path) -> None:
    content, asked = os.urandom(5 * MIB), list[int]()
    files = (remote("known", content), remote("unknown", content, size=None))
    with FaultServer(lambda r: ranged(content, r)) as server, engine(Budget()) as made:
        for grown in (len(content), 0):
            asked.clear()
            await made.fetch(
                FetchJob(
                    "f",
                    files,
                    (Signer(server.url),),
                    tmp_path / "f",
                    tmp_path / "journal",
                    room=asked.append,
                ),
                Progress(),
            )
            assert sum(size for size in asked if size > 0) == grown
            assert asked
        await made.close()
    assert (tmp_path / "f/unknown").read_bytes() == content
