"""What sources do wrong, and what the engine makes of it."""

import asyncio
import os
import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.manifest import Algorithm, Strength
from agent.policy import SourcePolicy
from agent.transfer import silence
from agent.transfer.pages import Writing
from shared.domain.reasons import Reason
from tests.component.transfer.fetching import PART, Fetching, Signer, remote
from tests.support.faults import FaultServer, Reply, Request, ranged

CONTENT = os.urandom(3 * PART + 12345)


@pytest.mark.parametrize("writing", [Writing.DIRECT, Writing.BUFFERED])
async def test_a_cut_connection_goes_on_from_the_last_byte_written(
    tmp_path: Path, writing: Writing
) -> None:
    def answer(request: Request) -> Reply:
        reply = ranged(CONTENT, request)
        return Reply(
            reply.status,
            reply.headers,
            reply.body,
            cut_after=500_000 if request.number < 3 else None,
        )

    fetching = Fetching(tmp_path, writing=writing)
    with FaultServer(answer) as server:
        (fetched,) = await fetching.fetch(
            [remote("f", CONTENT, Algorithm.SHA256)], Signer(server.url)
        )
    assert fetching.content("f") == CONTENT
    assert fetched.verified_by is Strength.SHA256
    assert fetching.moved == len(CONTENT)


async def test_a_silent_server_is_left_and_the_range_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENCE_SECONDS", 0.3)

    def answer(request: Request) -> Reply:
        reply = ranged(CONTENT, request)
        return Reply(
            reply.status,
            reply.headers,
            reply.body,
            stall_after=1000 if request.number == 0 else None,
        )

    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        await fetching.fetch([remote("f", CONTENT)], Signer(server.url))
    assert fetching.content("f") == CONTENT


async def test_a_server_that_ignores_ranges_is_read_as_one_stream(tmp_path: Path) -> None:
    fetching = Fetching(tmp_path)
    with FaultServer(lambda _: Reply(200, {}, CONTENT)) as server:
        await fetching.fetch([remote("f", CONTENT, Algorithm.SHA256)], Signer(server.url))
    assert fetching.content("f") == CONTENT
    assert fetching.progress.snapshot().bytes_done == len(CONTENT)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_file_of_unknown_size_is_read_to_its_end(tmp_path: Path, chunked: bool) -> None:
    fetching = Fetching(tmp_path)
    with FaultServer(lambda _: Reply(200, {}, CONTENT, chunked=chunked)) as server:
        file = remote("f", CONTENT, Algorithm.SHA256, size=None)
        (fetched,) = await fetching.fetch([file], Signer(server.url))
    assert fetching.content("f") == CONTENT
    assert fetched.size == len(CONTENT)


async def test_a_cut_stream_of_unknown_size_begins_anew(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        cut = 100_000 if request.number == 0 else None
        return Reply(200, {}, CONTENT, cut_after=cut, chunked=True)

    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        await fetching.fetch([remote("f", CONTENT, size=None)], Signer(server.url))
    assert fetching.content("f") == CONTENT
    assert fetching.progress.snapshot().bytes_done == len(CONTENT)


async def test_wrong_bytes_are_fetched_once_more_and_then_stall_with_the_files_name(
    tmp_path: Path,
) -> None:
    good, bad = CONTENT, b"x" + CONTENT[1:]
    files = [remote("deep/f", good, Algorithm.SHA256)]
    fetching = Fetching(tmp_path)
    with FaultServer(lambda r: ranged(bad if r.number == 0 else good, r)) as server:
        await Fetching(tmp_path / "once", connections=1).fetch(files, Signer(server.url))
    with (
        FaultServer(lambda r: ranged(bad, r)) as server,
        pytest.raises(Stalled, match="deep/f") as caught,
    ):
        await fetching.fetch(files, Signer(server.url))
    assert caught.value.reason is Reason.CHECKSUM_MISMATCH


async def test_only_what_is_wrong_on_disk_is_fetched_again(tmp_path: Path) -> None:
    """The source was right and the disk lost a range: a CRC of every range tells which."""
    fetching = Fetching(tmp_path)
    files = [remote("f", CONTENT, Algorithm.SHA256)]
    with FaultServer(lambda r: ranged(CONTENT, r)) as server:
        await fetching.fetch(files, Signer(server.url))
        with (fetching.tree / "f").open("r+b") as file:
            file.seek(PART + 5)
            file.write(b"rot")
        await fetching.fetch(files, Signer(server.url))
    assert fetching.content("f") == CONTENT
    assert fetching.moved == PART


@pytest.mark.parametrize(
    ("headers", "expect"),
    [({"ETag": '"v2"'}, {"etag": '"v1"'}), ({}, {"etag": '"v1"'})],
)
async def test_another_version_than_the_listed_one_is_not_taken(
    tmp_path: Path, headers: dict[str, str], expect: dict[str, str]
) -> None:
    with (
        FaultServer(lambda r: ranged(CONTENT, r, **headers)) as server,
        pytest.raises(SourceChanged),
    ):
        await Fetching(tmp_path).fetch([remote("f", CONTENT)], Signer(server.url, expect=expect))


async def test_a_file_that_changes_midway_is_not_mixed(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        return ranged(CONTENT, request, ETag='"v1"' if request.number < 2 else '"v2"')

    with FaultServer(answer) as server, pytest.raises(SourceChanged):
        await Fetching(tmp_path, connections=1).fetch(
            [remote("f", CONTENT)], Signer(server.url, expect={"etag": '"v1"'})
        )


async def test_a_file_that_grew_is_not_cut_to_its_old_size(tmp_path: Path) -> None:
    with (
        FaultServer(lambda r: ranged(CONTENT + b"more", r)) as server,
        pytest.raises(SourceChanged, match="bytes now"),
    ):
        await Fetching(tmp_path).fetch([remote("f", CONTENT)], Signer(server.url))


async def test_throttling_is_waited_for_as_asked(tmp_path: Path) -> None:
    times: list[float] = []

    def answer(request: Request) -> Reply:
        times.append(time.monotonic())
        return (
            Reply(503, {"Retry-After": "1"}) if request.number == 0 else ranged(b"small", request)
        )

    with FaultServer(answer) as server:
        await Fetching(tmp_path).fetch([remote("f", b"small")], Signer(server.url))
    assert times[1] - times[0] >= 1


async def test_a_long_wait_is_left_to_the_caller(tmp_path: Path) -> None:
    with (
        FaultServer(lambda _: Reply(429, {"Retry-After": "3600"})) as server,
        pytest.raises(Retryable) as caught,
    ):
        await Fetching(tmp_path).fetch([remote("f", b"small")], Signer(server.url))
    assert caught.value.reason is Reason.SOURCE_THROTTLED
    assert caught.value.after == 3600


async def test_an_expired_signature_is_renewed_once(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        if request.path.endswith("canary-1"):
            return Reply(403)
        return ranged(b"small", request)

    with FaultServer(answer) as server:
        signer = Signer(server.url)
        await Fetching(tmp_path).fetch([remote("f", b"small")], signer)
    assert signer.asked == 2


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, Reason.ACCESS_DENIED), (403, Reason.ACCESS_DENIED), (404, Reason.SOURCE_CHANGED)],
)
async def test_a_lasting_refusal_is_told_without_the_signature(
    tmp_path: Path, status: int, reason: Reason
) -> None:
    with FaultServer(lambda _: Reply(status)) as server:
        signer = Signer(server.url)
        with pytest.raises(FetchError) as caught:
            await Fetching(tmp_path).fetch([remote("f", b"small")], signer)
        assert len(server.requests) == 2
    assert caught.value.reason is reason
    assert "canary" not in caught.value.message


async def test_secrets_do_not_follow_a_redirect_to_another_host(tmp_path: Path) -> None:
    with FaultServer(lambda r: ranged(CONTENT, r)) as cdn:

        def answer(_: Request) -> Reply:
            return Reply(302, {"Location": f"{cdn.url}/cdn?x=1", "X-Repo-Commit": "c0ffee"})

        with FaultServer(answer) as hub:
            signer = Signer(
                hub.url,
                {"Authorization": "Bearer canary", "X-Kind": "model"},
                {"x-repo-commit": "c0ffee"},
            )
            fetching = Fetching(tmp_path)
            await fetching.fetch([remote("f", CONTENT)], signer)
    assert fetching.content("f") == CONTENT
    assert all("authorization" not in request.headers for request in cdn.requests)
    assert all(request.headers["x-kind"] == "model" for request in cdn.requests)
    # The way is remembered: not every range asks the hub again.
    assert len(hub.requests) <= fetching.connections


async def test_redirects_without_end_are_given_up(tmp_path: Path) -> None:
    with (
        FaultServer(lambda r: Reply(302, {"Location": r.path})) as server,
        pytest.raises(Stalled, match="redirects"),
    ):
        await Fetching(tmp_path).fetch([remote("f", b"small")], Signer(server.url))


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "http://169.254.169.254/latest", "gopher://x/"]
)
async def test_a_redirect_leads_nowhere_it_may_not(tmp_path: Path, location: str) -> None:
    policy = SourcePolicy(allowed_networks=(ip_network("127.0.0.0/8"),))
    with (
        FaultServer(lambda _: Reply(302, {"Location": location})) as server,
        pytest.raises(Stalled),
    ):
        await Fetching(tmp_path).fetch([remote("f", b"small")], Signer(server.url), policy=policy)


async def test_loopback_is_refused_in_a_cluster(tmp_path: Path) -> None:
    with (
        FaultServer(lambda r: ranged(b"small", r)) as server,
        pytest.raises(Stalled, match="loopback"),
    ):
        await Fetching(tmp_path).fetch(
            [remote("f", b"small")], Signer(server.url), policy=SourcePolicy()
        )
    assert not server.requests


async def test_compressed_content_is_not_taken_for_the_file(tmp_path: Path) -> None:
    with (
        FaultServer(lambda r: ranged(b"small", r, **{"Content-Encoding": "gzip"})) as server,
        pytest.raises(Retryable, match="gzip"),
    ):
        await asyncio.wait_for(
            Fetching(tmp_path).fetch([remote("f", b"small")], Signer(server.url)), 60
        )


async def test_a_dead_origin_gives_way_to_the_next(tmp_path: Path) -> None:
    with (
        FaultServer(lambda _: Reply(500)) as dead,
        FaultServer(lambda r: ranged(CONTENT, r)) as alive,
    ):
        fetching = Fetching(tmp_path)
        await fetching.fetch([remote("f", CONTENT)], Signer(dead.url), Signer(alive.url))
    assert fetching.content("f") == CONTENT


async def test_cancelling_ends_within_two_seconds_and_the_next_attempt_goes_on(
    tmp_path: Path,
) -> None:
    content = os.urandom(40 * PART)

    def answer(request: Request) -> Reply:
        reply = ranged(content, request)
        return Reply(
            reply.status,
            reply.headers,
            reply.body,
            stall_after=PART // 2 if request.number >= 20 else None,
        )

    fetching = Fetching(tmp_path)
    files = [remote("f", content, Algorithm.SHA256)]
    with FaultServer(answer) as server:
        attempt = asyncio.create_task(fetching.fetch(files, Signer(server.url)))
        await asyncio.to_thread(server.wait_for, 21)
        attempt.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        assert time.monotonic() - started < 2.5
    with FaultServer(lambda r: ranged(content, r)) as server:
        await fetching.fetch(files, Signer(server.url))
    assert fetching.content("f") == content
    assert fetching.moved <= 24 * PART
