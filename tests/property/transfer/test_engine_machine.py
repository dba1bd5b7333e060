"""However often a fetch dies or the power is lost, whatever changes at the source meanwhile: what is reported as fetched is what the source had."""

import asyncio
import contextlib
import hashlib
import random
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from agent.errors import FetchError, Retryable, SourceChanged
from agent.manifest import Algorithm, Digest, RemoteFile
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.transfer import attempts, budget, journal, receive
from agent.transfer.engine import Budget, Engine, FetchedFile, FetchJob
from agent.transfer.progress import Progress
from tests.support.disks import Crash
from tests.support.faults import FaultServer, Reply, Request, ranged
from tests.support.syscalls import Loss, Power, Syscalls
from tests.support.trees import read_files, sha256

# A failure is made as short as it can be first.
pytestmark = pytest.mark.timeout(600)
MEMORY = Path("/dev/shm")
# A thousandth of the real ones.
PART, CLAIM = 16 << 10, 6 << 10
SIZES = [0, 1, 3000, PART, PART + 1, 3 * PART, 5 * PART + 7]
NAMES = ["config.json", "weights/listed", "weights/bare", "weights/said"]
# Listed with its digest; with its ETag only; so that the answer states a digest.
LISTED, SAID = "weights/listed", "weights/said"
# Its server sends what it has now, whatever version is asked for.
HEEDLESS = "weights/bare"


@dataclass(frozen=True)
class Pace:
    """connections: of one fetch. read: bytes that a thread takes at a time, of which a limit of the rate makes fewer."""

    connections: int
    read: int


names = st.sampled_from(NAMES)
steps = st.integers(0, 40) | st.integers(0, 170)
tears = st.sampled_from([0.0, 0.3, 0.9])
# Where the next answers end too early.
cuts = st.lists(st.integers(0, PART), max_size=25)
paces = st.builds(Pace, st.sampled_from([1, 3]), st.sampled_from([3 << 10, 4 << 10]))
losses = st.builds(
    Loss,
    st.integers(0, 999),
    names=st.sampled_from([0.0, 0.2]),
    pages=st.sampled_from([0.1, 0.5, 1.0]),
    ends=st.sampled_from([0.0, 0.3]),
)


def content_of(version: int, size: int) -> bytes:
    """Versions have every other page in common, and some pages are empty, as those are that a disk has lost."""
    pages = (
        bytes(4096)
        if at % 5 == 2
        else random.Random(at if at % 2 else f"{version} {at}").randbytes(4096)
        for at in range(-(-size // 4096))
    )
    return b"".join(pages)[:size]


def etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


contents = st.builds(content_of, st.integers(0, 2), st.sampled_from(SIZES))


def listed(path: str, content: bytes) -> RemoteFile:
    stated = (sha256(content),) if path == LISTED else ()
    return RemoteFile(path, len(content), etag(content), path, stated)


def said(headers: Mapping[str, str]) -> tuple[Digest, ...]:
    return (Digest(Algorithm.SHA256, headers["x-sha256"]),)


class Pinning:
    """Signs as the sources do: for the listed version, and told apart by its ETag."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def sign(self, file: RemoteFile) -> SignedRequest:
        return SignedRequest(
            f"{self._url}/{file.locator}",
            headers={"If-Match": file.validator},
            expect={"etag": file.validator},
            states=said if file.path == SAID else None,
        )


class Source:
    """What the server has. cuts: bytes after which the next answers end. change: so many answers ahead."""

    def __init__(self) -> None:
        self.files = {path: content_of(0, SIZES[-1]) for path in NAMES}
        self.cuts: list[int] = []
        self.change: tuple[int, str, bytes] | None = None
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        path = request.path[1:]
        with self._lock:
            self._pass_time()
            content = self.files[path]
            cut = self.cuts.pop(0) if self.cuts else None
        if path != HEEDLESS and request.headers["if-match"] != etag(content):
            return Reply(412)
        sha = hashlib.sha256(content).hexdigest()
        reply = ranged(content, request, ETag=etag(content), **{"X-SHA256": sha})
        return reply if cut is None else replace(reply, cut_after=min(cut, len(reply.body)))

    def _pass_time(self) -> None:
        if self.change is not None:
            left, path, content = self.change
            self.change = (left - 1, path, content)
            if left == 0:
                self.change, self.files[path] = None, content


class EngineMachine(RuleBasedStateMachine):
    """kept: bytes that an attempt has left for the next one."""

    server: ClassVar[FaultServer]

    def __init__(self) -> None:
        super().__init__()
        memory = MEMORY if MEMORY.is_dir() else None
        self.root = Path(tempfile.mkdtemp(prefix="engine-machine-", dir=memory))
        self.power = Power(self.root)
        self.source = Source()
        self.before = dict(self.source.files)
        self.server.answer = self.source.answer
        self.kept = 0

    def teardown(self) -> None:
        self.power.close()
        shutil.rmtree(self.root)

    @rule(new=st.dictionaries(names, contents, min_size=1))
    def the_source_changes(self, new: dict[str, bytes]) -> None:
        self.before |= {path: self.source.files[path] for path in new}
        self.source.files |= new
        self.kept = 0

    @rule()
    def the_source_changes_back(self) -> None:
        self.the_source_changes(dict(self.before))

    @rule(step=steps, torn=tears, cuts=cuts, pace=paces)
    def a_fetch_dies(self, step: int, torn: float, cuts: list[int], pace: Pace) -> None:
        self.source.cuts = list(cuts)
        self.fetch(pace, dies_at=step, torn=torn, may=(Retryable,) if cuts else ())
        self.source.cuts = []

    @rule(step=steps, torn=tears, cuts=cuts, pace=paces, loss=losses)
    def a_fetch_dies_and_power_is_lost(
        self, step: int, torn: float, cuts: list[int], pace: Pace, loss: Loss
    ) -> None:
        self.a_fetch_dies(step, torn, cuts, pace)
        self.power_is_lost(loss)

    @rule(loss=losses)
    def power_is_lost(self, loss: Loss) -> None:
        self.power.lose(loss)
        self.kept = 0

    @rule(path=names, content=contents, answers=st.integers(0, 15), pace=paces)
    def the_source_changes_meanwhile(
        self, path: str, content: bytes, answers: int, pace: Pace
    ) -> None:
        self.source.change = (answers, path, content)
        self.fetch(pace, may=(SourceChanged,))
        self.source.change = None
        self.kept = 0

    @rule(pace=paces)
    def a_fetch_ends(self, pace: Pace) -> None:
        assert self.fetch(pace)

    def fetch(
        self,
        pace: Pace,
        *,
        dies_at: int | None = None,
        torn: float = 0,
        may: tuple[type[FetchError], ...] = (),
    ) -> bool:
        """Whether it succeeded; then all of its promises are looked at. may: how else it may fail."""
        wanted = dict(self.source.files)
        progress = Progress()
        with (
            Syscalls(self.root, power=self.power, dies_at=dies_at, torn=torn) as calls,
            mock.patch.object(budget, "BUFFER_BYTES", pace.read),
        ):
            try:
                fetched = asyncio.run(self.engine(pace.connections, progress))
            except Crash:
                fetched = None
            except may:
                fetched = None
        seen = progress.snapshot()
        small = sum(len(content) for content in wanted.values() if len(content) <= PART)
        total = sum(map(len, wanted.values()))
        assert seen.bytes_moved <= total - self.kept + pace.connections * PART + small
        self.kept = max(self.kept, min(seen.bytes_done, total))
        if fetched is None:
            return False
        assert not calls.dead
        assert read_files(self.root / "tree") == wanted
        for file, (path, content) in zip(fetched, wanted.items(), strict=True):
            assert (file.path, file.size, file.validator) == (path, len(content), etag(content))
            sha = [digest for digest in file.digests if digest.algorithm is Algorithm.SHA256]
            assert sha == ([sha256(content)] if sha or path == LISTED else [])
        return True

    async def engine(self, connections: int, progress: Progress) -> tuple[FetchedFile, ...]:
        engine = Engine(
            Budget(connections=connections), policy=SourcePolicy.unrestricted(), part_size=PART
        )
        files = tuple(listed(*item) for item in self.source.files.items())
        origins = (Pinning(self.server.url),)
        job = FetchJob("key", files, origins, self.root / "tree", self.root / "journal")
        try:
            return await engine.fetch(job, progress)
        finally:
            await engine.close()


@pytest.fixture(scope="module", autouse=True)
def served_at_a_small_scale() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for where, name, value in (
            (receive, "CLAIM_BYTES", CLAIM),
            (receive, "SMALL_FILE", PART),
            (journal, "_SLACK", 40),
            (attempts, "_BACKOFF_SECONDS", (0.001, 0.002)),
        ):
            stack.enter_context(mock.patch.object(where, name, value))
        EngineMachine.server = stack.enter_context(FaultServer(lambda _: Reply(404)))
        yield


EngineMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestEngine = EngineMachine.TestCase
