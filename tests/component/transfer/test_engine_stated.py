"""Digests that come with the bytes: nobody asked for them before."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.errors import Stalled
from agent.manifest import Algorithm, Digest, Strength
from shared.domain.reasons import Reason
from tests.component.transfer.fetching import PART, Fetching, Signer, remote
from tests.support.faults import FaultServer, Reply, Request, ranged

FILES = {"a": os.urandom(100_000), "b": os.urandom(200_000)}


def states(headers: Mapping[str, str]) -> tuple[Digest, ...]:
    return (Digest(Algorithm.MD5, headers["x-md5"]),)


def answer(request: Request) -> Reply:
    return whole(FILES[request.path.split("?")[0][1:]], request)


def whole(content: bytes, request: Request) -> Reply:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    # As S3 does: only an answer with the whole file says anything about the whole file.
    return ranged(content, request, **({} if "range" in request.headers else {"x-md5": md5}))


async def test_a_whole_answer_states_what_its_bytes_are_checked_against(tmp_path: Path) -> None:
    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        fetched = await fetching.fetch(
            [remote(path, content) for path, content in FILES.items()],
            Signer(server.url, states=states),
        )
    assert {file.verified_by for file in fetched} == {Strength.MD5}
    assert {path: fetching.content(path) for path in FILES} == FILES
    assert fetching.moved == 300_000


async def test_what_a_source_stated_before_it_broke_off_still_decides(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)

    def cut(request: Request) -> Reply:
        reply = whole(content, request)
        after = (5 << 20) // 2 if request.number == 0 else None
        return Reply(reply.status, reply.headers, reply.body, cut_after=after)

    fetching = Fetching(tmp_path)
    fetching.part_size = 8 << 20
    with FaultServer(cut) as server:
        (fetched,) = await fetching.fetch([remote("a", content)], Signer(server.url, states=states))
        assert "range" in server.requests[1].headers
    assert fetched.verified_by is Strength.MD5
    assert fetching.content("a") == content


async def test_bytes_other_than_stated_are_fetched_once_more_and_then_refused(
    tmp_path: Path,
) -> None:
    with (
        FaultServer(lambda r: ranged(FILES["a"], r, **{"x-md5": "0" * 32})) as server,
        pytest.raises(Stalled) as caught,
    ):
        await Fetching(tmp_path).fetch([remote("a", FILES["a"])], Signer(server.url, states=states))
    assert caught.value.reason is Reason.CHECKSUM_MISMATCH
    assert caught.value.message.startswith("a: ")
    assert len(server.requests) == 2


async def test_after_a_restart_what_was_stated_is_known_without_asking_again(
    tmp_path: Path,
) -> None:
    def half(request: Request) -> Reply:
        return Reply(403, {}, b"") if request.path.startswith("/b") else answer(request)

    fetching = Fetching(tmp_path, connections=1)
    files = [remote(path, content) for path, content in FILES.items()]
    with FaultServer(half) as server:
        with pytest.raises(Stalled):
            await fetching.fetch(files, Signer(server.url, states=states))
        server.answer = answer
        before = len(server.requests)
        fetched = await fetching.fetch(files, Signer(server.url, states=states))
        assert {r.path[:2] for r in server.requests[before:]} == {"/b"}
    assert {file.verified_by for file in fetched} == {Strength.MD5}


async def test_a_file_in_several_parts_is_never_asked_for_whole(tmp_path: Path) -> None:
    content = os.urandom(2 * PART)
    fetching = Fetching(tmp_path)
    with FaultServer(lambda r: ranged(content, r)) as server:
        (fetched,) = await fetching.fetch([remote("f", content)], Signer(server.url, states=states))
        assert all("range" in request.headers for request in server.requests)
    assert fetched.verified_by is Strength.SIZE
