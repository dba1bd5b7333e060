"""Credentials that change, and signatures that run out, while a file is fetched."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.errors import Stalled
from agent.manifest import Algorithm, RemoteFile
from agent.origin import SignedRequest
from shared.domain.reasons import Reason
from tests.component.transfer.fetching import PART, Fetching, Signer, remote
from tests.support.faults import FaultServer, Reply, Request, ranged

CONTENT = os.urandom(PART)
SMALL = {f"f{number}": os.urandom(1000) for number in range(200)}


async def test_a_slow_part_outlives_any_number_of_signatures(tmp_path: Path) -> None:
    """Each signature is good for one answer, of which a part comes."""
    served: set[str] = set()

    def answer(request: Request) -> Reply:
        if request.path in served:
            return Reply(403)
        served.add(request.path)
        reply = ranged(CONTENT, request)
        return Reply(reply.status, reply.headers, reply.body, cut_after=300_000)

    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        await fetching.fetch([remote("f", CONTENT, Algorithm.SHA256)], Signer(server.url))
    assert fetching.content("f") == CONTENT
    assert fetching.moved == len(CONTENT)


@dataclass
class Rotating(Signer):
    """Signs with the key that it knows, and learns another one when it is told that this one is refused."""

    key: str = "old"
    renewed: int = 0

    async def sign(self, file: RemoteFile) -> SignedRequest:
        self.asked += 1
        return SignedRequest(f"{self.url}/{file.locator}", headers={"Authorization": self.key})

    async def renew(self) -> None:
        self.renewed += 1
        self.key = "new"


async def test_who_is_refused_learns_the_new_key_and_goes_on(tmp_path: Path) -> None:
    """The key changes after half of a large file, and of many small ones."""
    count = 0

    def answer(request: Request) -> Reply:
        nonlocal count
        count += 1
        if request.headers["authorization"] != ("old" if count <= 100 else "new"):
            return Reply(401)
        name = request.path.removeprefix("/")
        return ranged(CONTENT * 4 if name == "f" else SMALL[name], request)

    files = [remote("f", CONTENT * 4), *(remote(name, body) for name, body in SMALL.items())]
    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        signer = Rotating(server.url)
        await fetching.fetch(files, signer)
    assert fetching.content("f") == CONTENT * 4
    assert {name: fetching.content(name) for name in SMALL} == SMALL
    assert signer.renewed
    assert fetching.moved == 4 * PART + sum(map(len, SMALL.values()))


async def test_a_key_that_is_refused_even_after_it_was_read_again_needs_a_person(
    tmp_path: Path,
) -> None:
    with FaultServer(lambda _: Reply(403)) as server:
        signer = Rotating(server.url)
        with pytest.raises(Stalled) as caught:
            await Fetching(tmp_path).fetch([remote("f", CONTENT)], signer)
    assert caught.value.reason is Reason.ACCESS_DENIED
    assert signer.renewed == 1
