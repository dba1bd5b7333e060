"""Promises of disk space to copies in flight, so that several together never cross the watermark."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from agent.blocking import Blocking
from agent.errors import Stalled
from agent.planning.admission import Space, kept_free, refusal, shortage
from agent.storage.tree import Usage
from shared.domain.reasons import Reason

T = TypeVar("T")

_BLOCK = 512
# Between looks at the disk while copies are written, and how many times longer than the look itself.
_LOOK_SECONDS = 0.25
_REST = 10
_FULL = "the disk is full but for what models leave free"


class LacksSpace(Stalled):
    """The copy does not fit now; `need`: bytes that it has still to write."""

    def __init__(self, message: str, *, need: int) -> None:
        super().__init__(Reason.INSUFFICIENT_STORAGE, message)
        self.need = need


@dataclass(frozen=True, slots=True)
class _Promise:
    """open_ended: the total leaves out files whose size nobody knows."""

    total: int
    folder: Path
    open_ended: bool

    def left(self) -> int:
        """Blocking."""
        return max(self.total - written(self.folder), 0)


class Ledger:
    """Admits copies one after the other; what a copy has written already is measured on disk, not counted.

    reclaim: gives up replaced trees. discard: gives up what is staged for a key. holders: bytes of what is there, by name.
    All are blocking.
    """

    def __init__(
        self,
        *,
        usage: Callable[[], Usage],
        reclaim: Callable[[], None],
        discard: Callable[[str], None],
        holders: Callable[[], Mapping[str, int]],
        min_free_percent: float,
        blocking: Blocking,
    ) -> None:
        self._usage = usage
        self._reclaim = reclaim
        self._discard = discard
        self._holders = holders
        self._percent = min_free_percent
        self._blocking = blocking
        self._promises: dict[str, _Promise] = {}
        self._stopped: dict[str, Path] = {}
        self._one_at_a_time = asyncio.Lock()

    async def keep(self, key: str) -> None:
        """A copy is tried again: what is staged for it is not given up any more."""
        async with self._one_at_a_time:
            self._stopped.pop(key, None)

    @asynccontextmanager
    async def admit(
        self, key: str, total: int, folder: Path, *, open_ended: bool = False
    ) -> AsyncIterator[None]:
        """Holds `total` bytes for the files below `folder` while the block runs.

        Raises LacksSpace. Where that makes the copy fit, replaced trees that pods may still read are given up, then what is staged
        of copies of unknown size that did not fit.
        """
        async with self._one_at_a_time:
            promise = _Promise(total, folder, open_ended)
            refused = await self._blocking(self._make_room, key, promise)
            if refused is not None:
                raise refused
            self._promises[key] = promise
        try:
            yield
        except Stalled as error:
            if open_ended and error.reason is Reason.INSUFFICIENT_STORAGE:
                self._stopped[key] = folder
            raise
        finally:
            del self._promises[key]

    async def widen(self, key: str, most: int) -> int:
        """What an admitted copy may write on top of its promise, at most `most` bytes; promised from now on."""
        async with self._one_at_a_time:
            promise = self._promises[key]
            there = await self._blocking(written, promise.folder)
            _, space = await self._blocking(self._measure, key, promise)
            more = max(min(most, space.usable), 0)
            self._promises[key] = replace(promise, total=max(promise.total, there) + more)
            return more

    async def watched(self, key: str, work: Coroutine[Any, Any, T]) -> T:
        """Ends an admitted copy's work with LacksSpace when the disk is down to what models leave free and others were promised.

        Of copies of known size the one that was admitted first goes on longest; those of unknown size come after all of them.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        pause = _LOOK_SECONDS
        try:
            while not (await asyncio.wait([task], timeout=pause))[0]:
                began = loop.time()
                spent = await self._blocking(self._spent, key)
                if spent is not None:
                    raise spent
                pause = max(_LOOK_SECONDS, _REST * (loop.time() - began))
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def room(self, folder: Path) -> Callable[[int], None]:
        """To be asked, in any thread, before files below the folder grow by bytes that nobody was promised. Raises `Stalled`."""

        def check(size: int) -> None:
            disk = os.statvfs(folder)
            least = kept_free(disk.f_blocks * disk.f_frsize, self._percent)
            if size > 0 and disk.f_bavail * disk.f_frsize - size < least:
                raise Stalled(Reason.INSUFFICIENT_STORAGE, _FULL)

        return check

    async def ran_out(self, error: Stalled) -> Stalled:
        """What a full disk means: with free bytes, space for a new try is awaited; without free inodes, somebody must act."""
        usage = await self._blocking(self._usage)
        if usage.inodes_available == 0:
            return Stalled(error.reason, f"{error.message}; no inode is free")
        return await self._blocking(self._short, error.message, usage)

    def usable(self, usage: Usage) -> int:
        """Bytes of the free ones that models may take, promises included."""
        return max(self._space({}, usage).usable, 0)

    def reserved(self) -> int:
        """Bytes that copies in flight have still to write. Blocking: looks at their files."""
        return sum(_left(self._others(None)).values())

    def fits(self, need: int) -> bool:
        """Whether a copy that was refused would be admitted now. Blocking."""
        return self._space(_left(self._others(None)), self._usage()).has(need)

    def _make_room(self, key: str, promise: _Promise) -> LacksSpace | None:
        need, space = self._measure(key, promise)
        idle = {
            other: written(folder) for other, folder in list(self._stopped.items()) if other != key
        }
        steps: list[Callable[[], None]] = [
            self._reclaim,
            *(partial(self._give_up, other) for other in idle),
        ]
        if need <= space.usable + self._usage().reclaimable + sum(idle.values()):
            for step in steps:
                if not space.has(need):
                    step()
                    need, space = self._measure(key, promise)
        if space.has(need):
            return None
        return LacksSpace(refusal(need, space, holders=self._holders()), need=need)

    def _give_up(self, key: str) -> None:
        self._discard(key)
        self._stopped.pop(key, None)

    def _spent(self, key: str) -> LacksSpace | None:
        """Why an admitted copy may not write on; None while it may."""
        promise, usage = self._promises[key], self._usage()
        before = self._before(key)
        most = {other: ahead.total for other, ahead in before.items()}
        if self._space(most, usage).usable > 0 or self._space(_left(before), usage).usable > 0:
            return None
        left = promise.left()
        if not left and not promise.open_ended:
            return None
        return self._short(_FULL, usage, besides=key, need=left)

    def _short(
        self, why: str, usage: Usage, *, besides: str | None = None, need: int = 0
    ) -> LacksSpace:
        """As soon as more can be used than now, and at least `need`, it is tried again."""
        space = self._space(_left(self._others(besides)), usage)
        need = max(need, max(space.usable, 0) + 1)
        return LacksSpace(f"{why}; {shortage(space, holders=self._holders())}", need=need)

    def _measure(self, key: str, promise: _Promise) -> tuple[int, Space]:
        return promise.left(), self._space(_left(self._others(key)), self._usage())

    def _space(self, in_flight: Mapping[str, int], usage: Usage) -> Space:
        return Space(
            capacity=usage.capacity,
            free=usage.available,
            kept_free=kept_free(usage.capacity, self._percent),
            in_flight=in_flight,
        )

    def _others(self, key: str | None) -> dict[str, _Promise]:
        return {other: each for other, each in list(self._promises.items()) if other != key}

    def _before(self, key: str) -> dict[str, _Promise]:
        """The promises that count before that of `key`."""
        ranked = sorted(list(self._promises.items()), key=lambda item: item[1].open_ended)
        return dict(takewhile(lambda item: item[0] != key, ranked))


def _left(promises: Mapping[str, _Promise]) -> dict[str, int]:
    return {key: promise.left() for key, promise in promises.items()}


def written(folder: Path) -> int:
    """Bytes allocated to the files below a folder that belong to it alone; what cannot be read is not counted."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = (Path(parent) / name).lstat()
            except OSError:  # whoever writes there finds it too
                continue
            if status.st_nlink == 1:
                total += status.st_blocks * _BLOCK
    return total
