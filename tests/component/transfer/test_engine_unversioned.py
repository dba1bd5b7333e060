"""Files of which nothing tells the version: no validator, no digest."""

import os
from pathlib import Path

import pytest

from agent.errors import Retryable
from agent.manifest import RemoteFile
from tests.component.transfer.fetching import PART, Fetching, Signer
from tests.support.faults import FaultServer, Reply, Request, ranged

OLD, NEW = os.urandom(3 * PART), os.urandom(3 * PART)
FILE = RemoteFile("f", 3 * PART, "", "f")


async def test_one_answer_brings_all_of_it_although_the_server_knows_ranges(
    tmp_path: Path,
) -> None:
    fetching = Fetching(tmp_path)
    with FaultServer(lambda request: ranged(OLD, request)) as server:
        await fetching.fetch([FILE], Signer(server.url))
        assert [request.range for request in server.requests] == [None]
    assert fetching.content("f") == OLD


async def test_two_contents_are_never_mixed(tmp_path: Path) -> None:
    """The file is replaced while the connection breaks."""

    def answer(request: Request) -> Reply:
        if request.number == 0:
            reply = ranged(OLD, request)
            return Reply(reply.status, reply.headers, reply.body, cut_after=2 * PART)
        return ranged(NEW, request)

    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        await fetching.fetch([FILE], Signer(server.url))
    assert fetching.content("f") == NEW


async def test_what_an_earlier_attempt_left_is_not_built_upon(tmp_path: Path) -> None:
    def cut(request: Request) -> Reply:
        reply = ranged(OLD, request)
        return Reply(reply.status, reply.headers, reply.body, cut_after=2 * PART)

    fetching = Fetching(tmp_path)
    with FaultServer(cut) as server, pytest.raises(Retryable):
        await fetching.fetch([FILE], Signer(server.url))
    with FaultServer(lambda request: ranged(NEW, request)) as server:
        await fetching.fetch([FILE], Signer(server.url))
    assert fetching.content("f") == NEW
