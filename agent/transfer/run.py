"""One fetch from its first range to its last digest."""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from time import monotonic
from typing import Any, Final, TypeVar

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.manifest import Digest, RemoteFile
from agent.origin import Origin
from agent.transfer import verify
from agent.transfer.attempts import Attempts, most_telling
from agent.transfer.crowd import Crowd
from agent.transfer.flow import Flow
from agent.transfer.pace import TICK_SECONDS
from agent.transfer.parts import Range, batches, split
from agent.transfer.receive import receive
from agent.transfer.routes import Routes
from agent.transfer.unit import Unit
from agent.transfer.work import FileWork, PartWork
from agent.transfer.workshop import Workshop
from shared.domain.reasons import Reason

T = TypeVar("T")

# Threads that bring small files: while one waits for the event loop, the other has the interpreter.
_CROWDS: Final = 2
# A part that takes less is not worth another connection, which has to be opened and come up to speed.
_WORTH_SECONDS: Final = 1.0
# What cancelling waits for at most. A thread that still looks up a name by then sees the stop flag before it writes.
_STOP_SECONDS: Final = 2.0

# Not structlog, whose import `pull` would wait for; a node routes both the same way.
log = logging.getLogger(__name__)


class Run:
    """Units of work are taken by lanes; a lane holds a slot of the budget while its thread works."""

    def __init__(
        self,
        *,
        files: Sequence[RemoteFile],
        origins: Sequence[Origin],
        key: str,
        shop: Workshop,
        flow: Flow,
        threads: Executor,
        hashing: Executor,
        part_size: int,
    ) -> None:
        self._works = [FileWork(file) for file in files]
        self._key = key
        self._shop = shop
        self._flow = flow
        self._routes = Routes(origins)
        self._attempts = Attempts(key, routes=self._routes, flow=flow, receive=self._receive)
        self._threads = threads
        self._hashing = hashing
        self._part_size = part_size
        self._units: deque[Unit] = deque()
        self._crowds: deque[Unit] = deque()
        self._running: set[Unit] = set()
        self._active = 0
        self._over = asyncio.Event()
        self._digests: dict[FileWork, tuple[Digest, ...]] = {}
        self._cursors: dict[FileWork, asyncio.Lock] = {}
        # Files that changed: what is there of them may be of several versions, however they are listed next time.
        self._mixed: set[str] = set()
        self._busy: set[Future[Any]] = set()

    async def run(self) -> list[tuple[FileWork, tuple[Digest, ...]]]:
        """Files with their digests, in the order given. Raises FetchError: of several, the most telling one."""
        try:
            await self._submit(self._hashing, self._recover)
            self._plan()
            async with asyncio.TaskGroup() as group:
                if self._works:
                    group.create_task(self._watch(group), name=f"pace-{self._key}")
                for _ in range(min(len(self._crowds), _CROWDS)):
                    group.create_task(self._crowd_lane(group), name=f"crowd-{self._key}")
                self._start_lanes(group)
        except BaseExceptionGroup as found:
            raise most_telling(found) from found
        finally:
            await self._stop()
        return [(work, self._digests[work]) for work in self._works]

    @property
    def waiting(self) -> int:
        return len(self._units) + len(self._crowds)

    def describe(self) -> dict[str, Any]:
        return {
            "key": self._key,
            "files": len(self._works),
            "files_done": len(self._digests),
            "units_waiting": len(self._units),
            "threads": len(self._busy),
            "bytes_done": self._shop.progress.snapshot().bytes_done,
        }

    def _recover(self) -> None:
        for work in self._works:
            self._shop.progress.found(verify.recover(work, self._shop))

    def _plan(self) -> None:
        large, small = batches([work.size for work in self._works], part_size=self._part_size)
        for index in large:
            self._units.extend(Unit([part]) for part in self._parts(self._works[index]))
        for group in small:
            self._crowds.append(
                Unit([p for index in group for p in self._parts(self._works[index])])
            )

    def _parts(self, work: FileWork) -> list[PartWork]:
        """What is missing of a file; a finished part stands for one of which nothing is."""
        if work.size is None or not work.ranges:
            parts = [PartWork(work, 0, work.size)]
        else:
            missing = split(work.size, part_size=self._part_size, done=work.done)
            parts = [PartWork(work, part.start, part.end) for part in missing]
            if not parts:
                parts = [PartWork(work, 0, work.size, finished=bool(work.size))]
        work.pending = len(parts)
        return parts

    def _start_lanes(self, group: asyncio.TaskGroup) -> None:
        for _ in range(min(len(self._units), self._flow.most - self._active)):
            self._active += 1
            group.create_task(self._lane(group), name=f"fetch-{self._key}-{self._active}")

    async def _lane(self, group: asyncio.TaskGroup) -> None:
        while self._units:
            unit = self._begin(self._units.popleft())
            if unit.parts:
                try:
                    await self._attempts.fetch(unit)
                except SourceChanged:
                    self._mixed.add(unit.current.id)
                    raise
                await self._end(unit, group)
        self._active -= 1

    async def _receive(self, unit: Unit) -> None:
        unit.began = unit.began or (monotonic(), unit.moved)
        await self._submit(self._threads, lambda: receive(unit, self._shop))

    async def _crowd_lane(self, group: asyncio.TaskGroup) -> None:
        """Small files, many at a time; what does not take the plain course there goes on in lanes."""
        while self._crowds:
            unit = self._begin(self._crowds.popleft())
            try:
                await asyncio.sleep(self._attempts.pause)
                await self._routes.sign(unit)
                async with self._flow.slots.hold_several(self._key, self._share(unit)) as width:
                    crowd = Crowd(
                        unit,
                        self._shop,
                        width=width,
                        openers=self._threads,
                        welcome=lambda: self._attempts.pause == 0,
                    )
                    await self._submit(self._threads, crowd.run)
                self._flow.tick()
            except FetchError as exc:
                log.debug(
                    "small files go on one by one", extra={"key": self._key, "why": exc.message}
                )
                if isinstance(exc, Retryable) and exc.reason is Reason.SOURCE_THROTTLED:
                    self._attempts.slow_down(exc)
            rest = [part for part in unit.parts if not part.finished]
            await self._end(unit, group)
            each = -(-len(rest) // self._flow.most)
            self._units.extend(
                Unit(rest[start : start + each], refused=unit.refused)
                for start in range(0, len(rest), each or 1)
            )
            self._start_lanes(group)

    def _share(self, unit: Unit) -> int:
        """Connections for a crowd; large files, for which round trips do not count, have the other half."""
        width = self._flow.slots.capacity
        return min(len(unit.parts), max(1, width // 2) if self._units else width)

    async def _watch(self, group: asyncio.TaskGroup) -> None:
        while not self._over.is_set():
            self._flow.tick()
            self._relieve(group)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), TICK_SECONDS)

    def _relieve(self, group: asyncio.TaskGroup) -> None:
        """Whoever has the most left to do gives half of it to a connection that has nothing to do.

        One part more than there are connections waits, which shows that more of them may be worth while.
        """
        idle = self._flow.slots.capacity + 1 - self._flow.slots.wanted
        for _ in range(0 if self._units or self._crowds else idle):
            slowest = max(self._running, key=Unit.seconds_left, default=None)
            if slowest is None or slowest.seconds_left() < _WORTH_SECONDS:
                break
            rest = slowest.parts[0].cut()
            if rest is None and slowest.straggles:
                rest = slowest.parts[0].cut(in_vain=True)
            if rest is None:
                break
            rest.of.pending += 1
            self._units.append(Unit([rest]))
        self._start_lanes(group)

    def _begin(self, unit: Unit) -> Unit:
        unit.parts = [part for part in unit.parts if not part.void]
        for work in unit.files:
            work.in_flight += 1
        if unit.parts:
            self._running.add(unit)
        return unit

    async def _end(self, unit: Unit, group: asyncio.TaskGroup) -> None:
        self._running.discard(unit)
        finished = Counter(part.of for part in unit.parts if part.finished and not part.void)
        for work in unit.files:
            work.in_flight -= 1
            work.pending -= finished[work]
            await self._settle(work, group)

    async def _settle(self, work: FileWork, group: asyncio.TaskGroup) -> None:
        if work.restart and work.in_flight == 0:
            self._again(work, sorted(work.done), group)
        elif work.pending == 0 and work.in_flight == 0 and work not in self._digests:
            await self._complete(work, group)
        elif work.sequential and work.pending:
            lock = self._cursors.setdefault(work, asyncio.Lock())
            if not lock.locked():
                group.create_task(self._advance(work, lock), name=f"hash-{self._key}")

    async def _advance(self, work: FileWork, lock: asyncio.Lock) -> None:
        async with lock:
            await self._submit(self._hashing, lambda: verify.advance(work, self._shop))

    async def _complete(self, work: FileWork, group: asyncio.TaskGroup) -> None:
        """All bytes are there: are they the right ones? A first mismatch fetches the bad ranges again."""
        async with self._cursors.setdefault(work, asyncio.Lock()):
            # Bytes that keep to a stated digest are the right ones, whenever they were read.
            if work.stated is None:
                await self._look_again(work)
            if work.sequential and work.hashed < (work.size or 0):
                found = await self._submit(self._hashing, lambda: verify.digests(work, self._shop))
            else:
                found = verify.digests(work, self._shop)
            if found is not None:
                self._digests[work] = found
                self._shop.progress.file_done()
                if len(self._digests) == len(self._works):
                    self._over.set()
                self._cursors.pop(work, None)
                return
            await self._look_again(work)
            bad = await self._submit(self._hashing, lambda: verify.bad_ranges(work, self._shop))
        work.mismatches += 1
        self._flow.mismatches += 1
        log.warning(
            "content is not what the source states",
            extra={"key": self._key, "file": work.file.path, "ranges": len(bad)},
        )
        if work.mismatches > 1:
            self._shop.journal.drop(work.id)
            stated = work.stated.algorithm.value if work.stated else "size"
            raise Stalled(
                Reason.CHECKSUM_MISMATCH,
                f"{work.file.path}: its {stated} is not what the source states, twice in a row",
            )
        self._again(work, bad, group)

    async def _look_again(self, work: FileWork) -> None:
        try:
            await self._routes.look_again(work)
        except SourceChanged:
            self._mixed.add(work.id)
            raise

    def _again(self, work: FileWork, bad: list[Range], group: asyncio.TaskGroup) -> None:
        """Fetch these ranges of a file anew, keep the others."""
        kept = {part: crcs for part, crcs in work.done.items() if part not in set(bad)}
        lost = work.reset() - sum(part.size for part in kept)
        self._shop.progress.found(-lost)
        self._shop.journal.drop(work.id)
        work.done = kept
        for claim in verify.claims(work):
            self._shop.journal.add(work.id, claim, stated=work.learned)
        self._units.extend(Unit([part]) for part in self._parts(work))
        self._start_lanes(group)

    async def _submit(self, executor: Executor, function: Callable[[], T]) -> T:
        future = executor.submit(function)
        self._busy.add(future)
        future.add_done_callback(self._busy.discard)
        return await asyncio.wrap_future(future)

    async def _stop(self) -> None:
        """No thread writes any more when this returns, however it is cancelled meanwhile."""
        self._shop.stop.set()
        deadline = monotonic() + _STOP_SECONDS
        while self._busy and monotonic() < deadline:
            self._shop.pool.abort(self._shop)
            await _uncancelled(asyncio.sleep(0.01))
        for file in self._mixed:
            # On a disk that takes nothing any more the folder will not be gone on with either.
            with contextlib.suppress(OSError):
                self._shop.journal.drop(file)
        self._shop.close_after(list(self._busy))


async def _uncancelled(pause: Any) -> None:
    """Waits out a short pause even when the task is cancelled in it: cancelling is already under way."""
    task = asyncio.ensure_future(pause)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
