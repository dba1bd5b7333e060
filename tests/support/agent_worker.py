"""An agent's copying without a cluster, at random and without end, to be killed at any instant."""

import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from agent.blocking import Blocking
from agent.cli.pull import PullOptions, wanted_from
from agent.copying.access import GivenCredentials
from agent.copying.assembly import Limits, Parts, assemble, now
from agent.copying.copy import Have
from agent.copying.progress import CopyWatch
from agent.node import scrub
from agent.policy import SourcePolicy
from agent.sources.hf import HfSource
from agent.storage.store import Store
from agent.transfer.budget import Budget
from shared.domain.storage_key import storage_key

# Loaded before the processes are forked, which start in milliseconds then.
__all__ = ["HfSource", "work"]

_PART_SIZE = 128 << 10
# Slow enough that most kills find a copy half-way.
_BYTES_PER_SECOND = 8 << 20


def work(root: Path, endpoint: str, commits: Mapping[str, Sequence[str]], seed: int) -> None:
    """Fills, replaces, evicts, sweeps, and reads again meanwhile. commits: revisions that may be asked for, by URI.

    Ends when published files are not what they were.
    """
    os.environ["HF_ENDPOINT"] = endpoint
    asyncio.run(_work(root, commits, random.Random(seed)))


async def _work(root: Path, commits: Mapping[str, Sequence[str]], chosen: random.Random) -> None:
    blocking = Blocking()
    store = await blocking(Store.open, root)
    parts = assemble(
        store,
        root=root,
        limits=Limits(Budget(bytes_per_second=_BYTES_PER_SECOND), part_size=_PART_SIZE),
        reader=GivenCredentials(),
        policy=SourcePolicy.unrestricted(hf_endpoint=os.environ["HF_ENDPOINT"]),
        blocking=blocking,
    )
    # A process lives for a part of a second.
    scrub._REST_SECONDS = 0.01
    reader = scrub.Scrub(
        store,
        root,
        # Everything is always due.
        period=timedelta(microseconds=1),
        busy=lambda: False,
        found=_rotten,
        read=lambda _: None,
        clock=now,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.run())
        tasks.create_task(_change(root, store, parts, blocking, commits, chosen))


def _rotten(key: str, damaged: tuple[str, ...]) -> None:
    raise RuntimeError(f"{key} has rotted: {damaged}")


async def _change(
    root: Path,
    store: Store,
    parts: Parts,
    blocking: Blocking,
    commits: Mapping[str, Sequence[str]],
    chosen: random.Random,
) -> None:
    while True:
        uri = chosen.choice(sorted(commits))
        match chosen.randrange(8):
            case 0:
                await blocking(store.evict, storage_key(uri))
            case 1:
                await blocking(
                    store.sweep, now=now(), grace=timedelta(0), wanted=(storage_key(uri),)
                )
            case _:
                await fill(root, store, parts, blocking, uri, chosen.choice(commits[uri]))


async def fill(
    root: Path, store: Store, parts: Parts, blocking: Blocking, uri: str, revision: str
) -> None:
    """As the agent's worker does."""
    wanted = replace(wanted_from(PullOptions(uri, root)), revision=revision)
    key = wanted.storage_key
    have = Have(tree=store.trees().get(key), whole=not await blocking(store.inspect, key))
    await parts.copier.copy(wanted, CopyWatch(), have)
