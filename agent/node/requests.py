"""Reads published trees again because somebody asked for it, at full speed: their files were found damaged."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from agent.blocking import Blocking
from agent.errors import FetchError
from agent.storage.requests import answered, asked
from agent.storage.store import Store

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 2.0


async def answer_requests(
    store: Store,
    root: Path,
    *,
    found: Callable[[str, tuple[str, ...]], None],
    read: Callable[[int], None],
) -> None:
    """For ever. found: called in the loop with the damaged paths of a tree. read: with the bytes that are read."""
    blocking = Blocking(threads=1)

    async def answer(key: str) -> None:
        def verify(stop: threading.Event) -> tuple[str, ...]:
            return store.verify(key, cancelled=stop, pace=read)

        damaged = await blocking.cancellable(verify)
        log.info("read again as asked", key=key, damaged=len(damaged))
        if damaged:
            found(key, damaged)
        await blocking(answered, root, key)

    try:
        while True:
            try:
                for key in await blocking(asked, root):
                    await answer(key)
            except FetchError as error:
                log.warning("a request waits", error=error.message)
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        blocking.close()
