"""Promises of disk space to copies in flight, so that several together never cross the watermark."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from agent.blocking import Blocking
from agent.errors import Stalled
from agent.planning.admission import Space, kept_free, lacks_space, shortage
from agent.storage.tree import Usage
from shared.domain.reasons import Reason

T = TypeVar("T")

_BLOCK = 512
# Between looks at the disk while files of unknown size come in.
_LOOK_SECONDS = 0.25


class LacksSpace(Stalled):
    """The copy does not fit now; `need`: bytes that it has still to write."""

    def __init__(self, message: str, *, need: int) -> None:
        super().__init__(Reason.INSUFFICIENT_STORAGE, message)
        self.need = need


@dataclass(frozen=True, slots=True)
class _Promise:
    total: int
    folder: Path


class Ledger:
    """Admits copies one after the other; what a copy has written already is measured on disk, not counted."""

    def __init__(
        self,
        *,
        usage: Callable[[], Usage],
        reclaim: Callable[[], None],
        holders: Callable[[], Mapping[str, int]],
        min_free_percent: float,
        blocking: Blocking,
    ) -> None:
        self._usage = usage
        self._reclaim = reclaim
        self._holders = holders
        self._percent = min_free_percent
        self._blocking = blocking
        self._promises: dict[str, _Promise] = {}
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def admit(self, key: str, total: int, folder: Path) -> AsyncIterator[None]:
        """Holds `total` bytes for the files below `folder` while the block runs.

        Raises LacksSpace. Replaced trees that pods may still read are given up before a copy is refused.
        """
        async with self._one_at_a_time:
            need, space = await self._blocking(self._measure, key, total, folder)
            if lacks_space(need, space, holders={}) is not None:
                await self._blocking(self._reclaim)
                need, space = await self._blocking(self._measure, key, total, folder)
                why = lacks_space(need, space, holders=self._holders())
                if why is not None:
                    raise LacksSpace(why, need=need)
            self._promises[key] = _Promise(total, folder)
        try:
            yield
        finally:
            del self._promises[key]

    async def widen(self, key: str, most: int) -> int:
        """What an admitted copy may write on top of its promise, at most `most` bytes; promised from now on."""
        async with self._one_at_a_time:
            promise = self._promises[key]
            _, space = await self._blocking(self._measure, key, promise.total, promise.folder)
            more = max(min(most, space.usable), 0)
            self._promises[key] = replace(promise, total=promise.total + more)
            return more

    async def watched(self, work: Coroutine[Any, Any, T]) -> T:
        """Ends the work with LacksSpace when the disk is down to what models leave free: for sizes nobody knew beforehand."""
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait([task], timeout=_LOOK_SECONDS))[0]:
                usage = await self._blocking(self._usage)
                if usage.available <= kept_free(usage.capacity, self._percent):
                    raise self._short(usage, "the disk is full but for what models leave free")
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def ran_out(self, error: Stalled) -> Stalled:
        """What a full disk means: with free bytes, space for a new try is awaited; without free inodes, somebody must act."""
        usage = await self._blocking(self._usage)
        if usage.inodes_available == 0:
            return Stalled(error.reason, f"{error.message}; no inode is free")
        return self._short(usage, error.message)

    def reserved(self) -> int:
        """Bytes that copies in flight have still to write. Blocking: looks at their files."""
        return sum(self._remaining().values())

    def fits(self, need: int) -> bool:
        """Whether a copy that was refused would be admitted now. Blocking."""
        space = self._space(self._remaining())
        return lacks_space(need, space, holders={}) is None

    def _short(self, usage: Usage, why: str) -> LacksSpace:
        """As soon as more is free than now it is tried again."""
        need = usage.available + 1
        space = self._space({}, usage)
        return LacksSpace(f"{why}; {shortage(space, holders=self._holders())}", need=need)

    def _measure(self, key: str, total: int, folder: Path) -> tuple[int, Space]:
        in_flight = {other: left for other, left in self._remaining().items() if other != key}
        return max(total - written(folder), 0), self._space(in_flight)

    def _space(self, in_flight: Mapping[str, int], usage: Usage | None = None) -> Space:
        usage = usage or self._usage()
        return Space(
            capacity=usage.capacity,
            free=usage.available,
            kept_free=kept_free(usage.capacity, self._percent),
            in_flight=in_flight,
        )

    def _remaining(self) -> dict[str, int]:
        return {
            key: max(promise.total - written(promise.folder), 0)
            for key, promise in list(self._promises.items())
        }


def written(folder: Path) -> int:
    """Bytes allocated to the files below a folder that belong to it alone; 0 when it is not there."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = (Path(parent) / name).lstat()
            except FileNotFoundError:
                continue
            if status.st_nlink == 1:
                total += status.st_blocks * _BLOCK
    return total
