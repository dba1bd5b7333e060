"""An informer at work, and what it tells."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

from shared.kube.client import KubeClient
from shared.kube.informer import Informer
from shared.kube.metrics import KubeMetrics
from shared.kube.resource import ObjectKey
from tests.unit.kube.virtual_time import PATIENCE
from tests.unit.kube.wire import THINGS, Wire, thing

Change = tuple[str, str | None, str | None]


class Watched:
    """Of each `Thing` it holds the colour; `changes` is what its handler was told."""

    def __init__(self, informer: Informer[str]) -> None:
        self.informer = informer
        self.changes: asyncio.Queue[Change] = asyncio.Queue()
        informer.on_change(self._note)

    def _note(self, key: ObjectKey, old: str | None, new: str | None) -> None:
        self.changes.put_nowait((key.name, old, new))

    async def told(self, count: int) -> list[Change]:
        async with asyncio.timeout(PATIENCE):
            return [await self.changes.get() for _ in range(count)]

    def holds(self) -> dict[str, str]:
        return {key.name: colour for key, colour in self.informer.snapshot().items()}


Watch = Callable[..., AbstractAsyncContextManager[Watched]]


def watching(client: KubeClient, metrics: KubeMetrics) -> Watch:
    """Runs an informer while the context lasts; it is given the context's arguments."""

    @asynccontextmanager
    async def run(**options: Any) -> AsyncIterator[Watched]:
        watched = Watched(Informer(client, THINGS, _colour, metrics=metrics, **options))
        task = asyncio.create_task(watched.informer.run())
        try:
            yield watched
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return run


def red(name: str, version: int) -> Wire:
    return thing(name, version, colour="red")


def blue(name: str, version: int) -> Wire:
    return thing(name, version, colour="blue")


def _colour(wire: Wire) -> str:
    if "colour" not in wire:
        raise ValueError("colourless")
    return str(wire["colour"])
