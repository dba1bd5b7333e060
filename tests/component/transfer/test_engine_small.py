"""Many small files at once, from servers that are real, slow, elsewhere, or up to something."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

import pytest

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.manifest import Algorithm, RemoteFile, Strength
from agent.policy import SourcePolicy
from agent.tls import Tls
from agent.transfer import silence
from agent.transfer.engine import Budget, Engine, FetchJob
from agent.transfer.progress import Progress
from shared.domain.reasons import Reason
from tests.component.transfer.fetching import Fetching, Signer, remote
from tests.support.faults import FaultServer, Reply, Request, ranged
from tests.support.servers.web import WebServer

FILES = {f"d{n % 7}/{n}": os.urandom(n % 50 * 400 + 1) for n in range(300)}
ODD = "d3/150"


def name_of(request: Request) -> str:
    return unquote(request.path.split("?")[0][1:])


def good(request: Request) -> Reply:
    return ranged(FILES[name_of(request)], request)


def listed(*algorithms: Algorithm) -> list[RemoteFile]:
    return [remote(path, content, *algorithms) for path, content in FILES.items()]


def arrived(fetching: Fetching) -> bool:
    return all(fetching.content(path) == content for path, content in FILES.items())


class Held:
    """Answers that take so many seconds. most: of them at once."""

    def __init__(self, seconds: float) -> None:
        self.most = 0
        self._seconds = seconds
        self._now = 0
        self._lock = threading.Lock()

    def wait(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self._seconds)
        with self._lock:
            self._now -= 1


async def fetch_within(
    budget: Budget,
    files: Sequence[RemoteFile],
    url: str,
    folder: Path,
    *,
    ahead: Callable[[], None] = lambda: None,
) -> None:
    engine = Engine(budget, policy=SourcePolicy.unrestricted())
    job = FetchJob(
        "key", tuple(files), (Signer(url),), folder / "tree", folder / "journal", ahead=ahead
    )
    await engine.fetch(job, Progress())
    await engine.close()


@pytest.mark.parametrize("algorithm", [Algorithm.SHA256, Algorithm.MD5, None])
async def test_they_come_over_tls_from_a_real_server(
    tmp_path: Path, web_server: WebServer, algorithm: Algorithm | None
) -> None:
    for path, content in FILES.items():
        web_server.put(f"small/{path}", content)
    signer = Signer(f"{web_server.tls_url}/small", tls=Tls(ca_bundle=str(web_server.authority)))
    fetching = Fetching(tmp_path)
    fetched = await fetching.fetch(listed(*((algorithm,) if algorithm else ())), signer)
    assert arrived(fetching)
    assert {file.verified_by.value for file in fetched} == {
        algorithm.value if algorithm else "size"
    }
    assert fetching.moved == sum(map(len, FILES.values()))


async def test_a_server_that_is_not_trusted_gets_no_request(
    tmp_path: Path, web_server: WebServer
) -> None:
    web_server.put("mistrusted", b"x")
    with pytest.raises(Retryable):
        await Fetching(tmp_path).fetch([remote("mistrusted", b"x")], Signer(web_server.tls_url))
    assert not any("mistrusted" in line for line in web_server.requests())


HEAD = b"HTTP/1.1 200 OK\r\n"
BODY = FILES[ODD]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0\r\n\r\n" * 100,
        HEAD,
        HEAD + b"X: " + b"y" * (1 << 20),
        HEAD + b"".join(b"X-%d: y\r\n" % n for n in range(100_000)) + b"\r\n",
        HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY),
        HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[1:],
        HEAD + b"Content-Length: 1\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000000\r\n\r\n",
    ],
)
async def test_an_answer_that_makes_no_sense_costs_nobody_a_file(
    tmp_path: Path, raw: bytes
) -> None:
    """Twice, so that both ways of fetching meet it; then the server thinks better of it."""
    odd = 0

    def answer(request: Request) -> Reply:
        nonlocal odd
        if name_of(request) == ODD and odd < 2:
            odd += 1
            return Reply(raw=raw)
        return good(request)

    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        await fetching.fetch(listed(Algorithm.SHA256), Signer(server.url))
    assert arrived(fetching)
    assert fetching.progress.snapshot().bytes_done == sum(map(len, FILES.values()))


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"Content-Length: 99999999999999\r\n\r\n" + BODY,
        HEAD + b"Content-Length: 99999\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_an_answer_of_another_length_is_never_taken(tmp_path: Path, raw: bytes) -> None:
    with (
        FaultServer(lambda r: Reply(raw=raw) if name_of(r) == ODD else good(r)) as server,
        pytest.raises(SourceChanged, match=ODD),
    ):
        await Fetching(tmp_path).fetch(listed(), Signer(server.url))


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {}, BODY, chunked=True),
        Reply(200, {"Connection": "close"}, BODY),
        Reply(raw=b"HTTP/1.0 200 OK\r\n\r\n" + BODY),
    ],
)
async def test_unusual_answers_are_understood(tmp_path: Path, reply: Reply) -> None:
    fetching = Fetching(tmp_path)
    with FaultServer(lambda r: reply if name_of(r) == ODD else good(r)) as server:
        await fetching.fetch(listed(), Signer(server.url))
    assert arrived(fetching)


async def test_bytes_after_the_announced_end_are_not_taken_for_the_next_answer(
    tmp_path: Path,
) -> None:
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"

    def answer(request: Request) -> Reply:
        content = FILES[name_of(request)]
        head = forged % len(content)
        return Reply(
            raw=head + content + b"".join(forged % n + b"x" * n for n in range(1, 900, 100))
        )

    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        await fetching.fetch(listed(), Signer(server.url))
    assert arrived(fetching)


async def test_a_silent_connection_is_left_and_its_file_comes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENCE_SECONDS", 0.5)

    def answer(request: Request) -> Reply:
        reply = good(request)
        after = len(reply.body) // 2 if request.number in (10, 20) else None
        return Reply(reply.status, reply.headers, reply.body, stall_after=after)

    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        await asyncio.wait_for(fetching.fetch(listed(), Signer(server.url)), 30)
    assert arrived(fetching)


async def test_secrets_do_not_follow_all_the_files_to_another_host(tmp_path: Path) -> None:
    with FaultServer(good) as cdn:

        def answer(request: Request) -> Reply:
            return Reply(302, {"Location": f"{cdn.url}/{name_of(request)}"}, b"moved")

        fetching = Fetching(tmp_path)
        with FaultServer(answer) as hub:
            headers = {"Authorization": "Bearer canary", "X-Kind": "model"}
            await fetching.fetch(listed(), Signer(hub.url, headers))
            assert len(hub.requests) == len(cdn.requests) == len(FILES)
            assert max(hub.accepted, cdn.accepted) <= 3 * fetching.connections
    assert arrived(fetching)
    assert all("authorization" not in request.headers for request in cdn.requests)
    assert all("canary" not in request.path for request in cdn.requests)
    assert all(request.headers["x-kind"] == "model" for request in cdn.requests)


async def test_two_servers_that_send_files_to_and_fro_are_given_up(tmp_path: Path) -> None:
    with FaultServer(lambda _: Reply(500)) as one, FaultServer(lambda _: Reply(500)) as other:
        one.answer = lambda r: Reply(302, {"Location": f"{other.url}{r.path}"})
        other.answer = lambda r: Reply(302, {"Location": f"{one.url}{r.path}"})
        with pytest.raises(Stalled, match="redirects"):
            await asyncio.wait_for(Fetching(tmp_path).fetch(listed(), Signer(one.url)), 30)


@pytest.mark.parametrize("size", [5, 3 << 20])
async def test_a_redirect_to_a_name_in_another_alphabet_is_followed(
    tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)

    def answer(request: Request) -> Reply:
        if name_of(request) == "f":
            location = "/übung mit\x7f €".encode()
            return Reply(
                raw=b"HTTP/1.1 302 X\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % location
            )
        assert name_of(request) == "übung mit\x7f €"
        return ranged(content, request)

    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        await fetching.fetch([remote("f", content)], Signer(server.url))
    assert fetching.content("f") == content


@pytest.mark.parametrize("size", [5, 3 << 20])
async def test_a_secret_with_a_line_break_is_a_mistake_and_not_a_header(
    tmp_path: Path, size: int
) -> None:
    with FaultServer(lambda r: ranged(bytes(size), r)) as server:
        signer = Signer(server.url, {"Authorization": "Bearer x\r\nX-Evil: canary"})
        with pytest.raises(Stalled) as caught:
            await Fetching(tmp_path).fetch([remote("f", bytes(size))], signer)
        assert not server.requests
    assert "canary" not in caught.value.message


async def test_a_source_that_asks_for_a_pause_is_left_alone_for_so_long(tmp_path: Path) -> None:
    """By everybody, not only by the connection that was told."""
    times: list[float] = []
    lock = threading.Lock()

    def answer(request: Request) -> Reply:
        with lock:
            times.append(time.monotonic())
        return Reply(429, {"Retry-After": "1"}) if request.number == 50 else good(request)

    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        await fetching.fetch(listed(), Signer(server.url))
    assert arrived(fetching)
    # What was under way already may still arrive.
    after = times[50 + fetching.connections + 1]
    assert after - times[50] >= 0.9


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: Reply(200, {"Content-Encoding": "br"}, body), Reason.SOURCE_ERROR),
        (lambda body: Reply(200, {}, body + b"grown"), Reason.SOURCE_CHANGED),
        (lambda body: Reply(200, {}, body[:-1]), Reason.SOURCE_CHANGED),
        (lambda body: Reply(200, {"ETag": '"v2"'}, body), Reason.SOURCE_CHANGED),
        (lambda _: Reply(404), Reason.SOURCE_CHANGED),
        (lambda _: Reply(403), Reason.ACCESS_DENIED),
        (lambda body: Reply(200, {}, bytes(len(body))), Reason.CHECKSUM_MISMATCH),
    ],
)
async def test_one_bad_file_of_many_is_told_by_name(
    tmp_path: Path, change: Callable[[bytes], Reply], reason: Reason
) -> None:
    def answer(request: Request) -> Reply:
        if name_of(request) == ODD:
            return change(BODY)
        reply = good(request)
        return Reply(reply.status, {**reply.headers, "ETag": '"v1"'}, reply.body)

    expect = {} if reason in (Reason.CHECKSUM_MISMATCH, Reason.SOURCE_ERROR) else {"etag": '"v1"'}
    with FaultServer(answer) as server, pytest.raises(FetchError) as caught:
        await asyncio.wait_for(
            Fetching(tmp_path).fetch(listed(Algorithm.SHA256), Signer(server.url, expect=expect)),
            60,
        )
    assert caught.value.reason is reason
    assert ODD in caught.value.message


async def test_signatures_that_ran_out_are_renewed_for_all_files(tmp_path: Path) -> None:
    old = len(FILES)

    def answer(request: Request) -> Reply:
        number = int(request.path.rpartition("-")[2])
        return good(request) if number > old or number < 20 else Reply(403)

    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        await fetching.fetch(listed(), Signer(server.url))
    assert arrived(fetching)


async def test_after_a_failure_what_came_is_not_asked_for_again(tmp_path: Path) -> None:
    def broken(request: Request) -> Reply:
        return Reply(404) if name_of(request) == ODD else good(request)

    fetching = Fetching(tmp_path)
    with FaultServer(broken) as server:
        with pytest.raises(FetchError):
            await fetching.fetch(listed(Algorithm.SHA256), Signer(server.url))
        before = len(server.requests)
        server.answer = good
        fetched = await fetching.fetch(listed(Algorithm.SHA256), Signer(server.url))
        assert len(server.requests) - before <= len(FILES) - 140
    assert arrived(fetching)
    assert {file.verified_by for file in fetched} == {Strength.SHA256}


async def test_cancelling_ends_within_two_seconds(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        return Reply(200, {}, b"x" * 100, stall_after=10) if request.number > 50 else good(request)

    with FaultServer(answer) as server:
        attempt = asyncio.create_task(Fetching(tmp_path).fetch(listed(), Signer(server.url)))
        await asyncio.to_thread(server.wait_for, 53)
        started = time.monotonic()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(("size", "most"), [(1000, 16), (900_000, 8)])
async def test_they_have_more_connections_than_large_files_in_the_same_memory(
    tmp_path: Path, size: int, most: int
) -> None:
    """Four places of 2 MiB each, in which two files of 900 kB fit."""
    content = os.urandom(size)
    held = Held(0.05)

    def answer(request: Request) -> Reply:
        held.wait()
        return ranged(content, request)

    budget = Budget(connections=16, bytes_in_flight=8 << 20)
    files = [remote(f"f{number}", content) for number in range(100)]
    with FaultServer(answer) as server:
        await fetch_within(budget, files, server.url, tmp_path)
    assert 4 < held.most <= most


async def test_on_a_long_link_they_have_all_connections_of_the_budget(tmp_path: Path) -> None:
    held = Held(0.04)

    def answer(request: Request) -> Reply:
        held.wait()
        return ranged(b"content", request)

    files = [remote(f"f{number}", b"content") for number in range(1500)]
    with FaultServer(answer) as server:
        await fetch_within(Budget(connections=128), files, server.url, tmp_path)
        assert server.accepted <= 128 + 16
    assert 96 < held.most <= 128


async def test_the_disk_may_take_what_came_while_others_come(tmp_path: Path) -> None:
    files = [remote(f"f{number}", b"content") for number in range(3000)]
    left: list[int] = []
    with FaultServer(lambda request: ranged(b"content", request)) as server:

        def ahead() -> None:
            left.append(len(files) - len(server.requests))
            time.sleep(0.01)

        await fetch_within(Budget(), files, server.url, tmp_path, ahead=ahead)
    assert 1 <= len(left) <= 5
    assert left[0] > 1000


async def test_larger_files_that_follow_small_ones_have_as_few_connections_as_fit_in_memory(
    tmp_path: Path,
) -> None:
    large, small = os.urandom(900_000), b"x" * 1000
    held = Held(0.05)

    def answer(request: Request) -> Reply:
        if name_of(request).startswith("a"):
            return ranged(small, request)
        held.wait()
        return ranged(large, request)

    budget = Budget(connections=16, bytes_in_flight=8 << 20)
    files = [remote(f"a{number:03}", small) for number in range(500)]
    files += [remote(f"b{number:03}", large) for number in range(60)]
    with FaultServer(answer) as server:
        await fetch_within(budget, files, server.url, tmp_path)
    assert 2 < held.most <= 8


async def test_a_file_that_is_long_in_coming_holds_up_none_of_a_thousand(tmp_path: Path) -> None:
    """They are asked for in batches, and the next batch does not wait for the last file of the one before."""
    files = [remote(f"f{number}", b"content") for number in range(1000)]
    others = threading.Event()
    asked = threading.Semaphore(0)

    def answer(request: Request) -> Reply:
        if name_of(request) == "f100":
            others.wait(20)
        else:
            asked.release()
        return ranged(b"content", request)

    with FaultServer(answer) as server:
        fetch = asyncio.create_task(Fetching(tmp_path).fetch(files, Signer(server.url)))
        for _ in range(len(files) - 1):
            assert await asyncio.to_thread(asked.acquire, timeout=10)
        others.set()
        assert len(await fetch) == len(files)
        assert len(server.requests) == len(files)
