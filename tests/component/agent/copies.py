"""What makes copies in an agent, on a store of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.blocking import Blocking
from agent.copying.access import GivenCredentials
from agent.copying.assembly import Limits, assemble
from agent.copying.copy import Copier
from agent.policy import SourcePolicy
from agent.storage.disk import Disk
from agent.storage.store import Store


@asynccontextmanager
async def copier(
    root: Path, policy: SourcePolicy, *, disk: Disk | None = None
) -> AsyncIterator[tuple[Store, Copier]]:
    blocking, store = Blocking(), Store.open(root, disk=disk)
    parts = assemble(
        store,
        root=root,
        limits=Limits(),
        reader=GivenCredentials(),
        policy=policy,
        blocking=blocking,
    )
    try:
        yield store, parts.copier
    finally:
        await parts.engine.close()
        store.close()
        blocking.close()
