"""A whole copy, as the agent makes it: resolve, fetch, unpack, verify, publish."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.blocking import Blocking
from agent.copying.access import CredentialsReader, GivenCredentials
from agent.copying.assembly import Limits, assemble, now
from agent.copying.copy import Copier, Have, Outcome
from agent.copying.progress import CopyWatch
from agent.manifest import Strength
from agent.planning.desired import Wanted, group, read_work_list
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from agent.storage.store import Store
from agent.storage.tree import Tree
from agent.transfer.budget import Budget
from shared.api.node import LocalModelInfo

MIB = 1 << 20


@dataclass(frozen=True)
class Copied:
    """moved: bytes that came over the network this time. verified: how, by path."""

    tree: Tree
    files: dict[str, bytes]
    moved: int
    verified: dict[str, Strength]


async def copied(
    uri: str, root: Path, policy: SourcePolicy, credentials: Credentials | None = None
) -> Copied:
    reader = GivenCredentials(credentials or Credentials())
    async with _copier(root, policy, reader) as copier:
        watch = CopyWatch(started=now())
        outcome = await copier.copy(_wanted(uri), watch, Have())
        verified = {file.path: file.verified_by for file in outcome.tree.files}
    folder = root / "models" / outcome.tree.storage_key
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    return Copied(outcome.tree, files, watch.moved, verified)


async def interrupted(
    uri: str, root: Path, policy: SourcePolicy, credentials: Credentials | None, *, after: int
) -> None:
    """Begins a copy, slowly, and stops it once so many bytes are there."""
    async with under_way(uri, root, policy, GivenCredentials(credentials or Credentials())) as copy:
        await copy.reaches(after)
        copy.task.cancel()
        await asyncio.wait([copy.task])


@dataclass(frozen=True)
class UnderWay:
    watch: CopyWatch
    task: asyncio.Task[Outcome]

    async def reaches(self, count: int) -> None:
        """So many bytes are there; raises what the copy raised before."""
        async with asyncio.timeout(60):
            while self.watch.done < count and not self.task.done():  # noqa: ASYNC110 — threads count the bytes
                await asyncio.sleep(0.01)
        if self.task.done():
            await self.task


@asynccontextmanager
async def under_way(
    uri: str, root: Path, policy: SourcePolicy, reader: CredentialsReader
) -> AsyncIterator[UnderWay]:
    """A slow copy."""
    async with _copier(root, policy, reader, rate=12 * MIB) as copier:
        watch = CopyWatch(started=now())
        yield UnderWay(watch, asyncio.create_task(copier.copy(_wanted(uri), watch, Have())))


@asynccontextmanager
async def _copier(
    root: Path, policy: SourcePolicy, reader: CredentialsReader, *, rate: int = 0
) -> AsyncIterator[Copier]:
    blocking = Blocking()
    store = await blocking(Store.open, root)
    try:
        parts = assemble(
            store,
            root=root,
            limits=Limits(Budget(connections=4, bytes_per_second=rate or None), part_size=MIB),
            reader=reader,
            policy=policy,
            blocking=blocking,
        )
        try:
            yield parts.copier
        finally:
            await parts.engine.close()
    finally:
        await blocking(store.close)
        blocking.close()


def _wanted(uri: str) -> Wanted:
    info = LocalModelInfo(source_model_uri=uri, model_name="model")
    (wanted,) = group(read_work_list([info])).values()
    return wanted
