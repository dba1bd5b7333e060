"""One fetch in a test: a folder, an origin, an engine."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.manifest import Algorithm, Digest, RemoteFile
from agent.origin import LocalPath, SignedRequest
from agent.policy import SourcePolicy
from agent.tls import SYSTEM_TLS, Tls
from agent.transfer.engine import Budget, Engine, FetchedFile, FetchJob
from agent.transfer.pages import Writing
from agent.transfer.progress import Progress

PART = 1 << 20


@dataclass
class Signer:
    """Signs what a test tells it to; counts how often it is asked."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    expect: dict[str, str] = field(default_factory=dict)
    states: Callable[[Mapping[str, str]], tuple[Digest, ...]] | None = None
    expires_in: float | None = None
    tls: Tls = SYSTEM_TLS
    asked: int = 0

    async def sign(self, file: RemoteFile) -> SignedRequest:
        self.asked += 1
        return SignedRequest(
            f"{self.url}/{file.locator}?signature=canary-{self.asked}",
            headers=self.headers,
            expect=self.expect,
            states=self.states,
            expires_in=self.expires_in,
            tls=self.tls,
        )


@dataclass
class OnDisk:
    """Names files of this machine."""

    folder: Path

    async def sign(self, file: RemoteFile) -> LocalPath:
        return LocalPath(self.folder / file.locator)


def remote(
    path: str,
    content: bytes,
    *algorithms: Algorithm,
    size: int | None = -1,
    digests: tuple[Digest, ...] = (),
) -> RemoteFile:
    """A file as its source would list it."""
    stated = tuple(Digest(a, hashlib.new(a.value, content).hexdigest()) for a in algorithms)
    shown = len(content) if size == -1 else size
    return RemoteFile(path, shown, '"v1"', path, (*stated, *digests))


class Fetching:
    """The same folder through several attempts, each with a new engine, as after a restart."""

    def __init__(
        self, folder: Path, *, connections: int = 4, writing: Writing = Writing.AUTO
    ) -> None:
        self.writing = writing
        self.tree = folder / "tree"
        self.journal = folder / "journal"
        self.connections = connections
        self.part_size = PART
        self.bytes_per_second: int | None = None
        self.progress = Progress()

    async def fetch(
        self,
        files: Sequence[RemoteFile],
        *origins: Signer | OnDisk,
        policy: SourcePolicy | None = None,
    ) -> tuple[FetchedFile, ...]:
        self.progress = Progress()
        engine = Engine(
            Budget(connections=self.connections, bytes_per_second=self.bytes_per_second),
            policy=policy or SourcePolicy.unrestricted(),
            part_size=self.part_size,
            writing=self.writing,
        )
        job = FetchJob("key", tuple(files), origins, self.tree, self.journal)
        try:
            return await engine.fetch(job, self.progress)
        finally:
            await engine.close()

    def content(self, path: str) -> bytes:
        return (self.tree / path).read_bytes()

    @property
    def moved(self) -> int:
        return self.progress.snapshot().bytes_moved
