"""One fetch from its first range to its last digest."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from time import monotonic
from typing import Any, Final, TypeVar

import structlog

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.manifest import Digest, RemoteFile
from agent.origin import LocalPath, Origin
from agent.transfer import verify
from agent.transfer.answers import RangesIgnored, Refused
from agent.transfer.budget import Slots
from agent.transfer.checksums import HashingCancelled
from agent.transfer.parts import Range, batches, split
from agent.transfer.receive import Stopped, Workshop, new_route, receive
from agent.transfer.work import FileWork, PartWork, Route, Unit
from shared.domain.backoff import delay
from shared.domain.reasons import Reason

T = TypeVar("T")

# Failures in a row without a byte in between; then the caller shows the failure and a next retry time.
_TRIES: Final = 5
_BACKOFF_SECONDS: Final = (0.2, 5.0)
# A source that asks for a longer wait is waited for by the caller, who lets others use the connections meanwhile.
_LONGEST_WAIT_SECONDS: Final = 30.0
# Signing asks nobody, or a token service once in a while.
_SIGN_SECONDS: Final = 60.0
# What cancelling waits for at most. A thread that still looks up a name by then sees the stop flag before it writes.
_STOP_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


class Run:
    """Units of work are taken by lanes; a lane holds a slot of the budget while its thread works."""

    def __init__(
        self,
        *,
        files: Sequence[RemoteFile],
        origins: Sequence[Origin],
        key: str,
        shop: Workshop,
        slots: Slots,
        lanes: Callable[[], int],
        threads: Executor,
        hashing: Executor,
        part_size: int,
    ) -> None:
        self._works = [FileWork(file) for file in files]
        self._origins = origins
        self._key = key
        self._shop = shop
        self._slots = slots
        self._lanes = lanes
        self._threads = threads
        self._hashing = hashing
        self._part_size = part_size
        self._units: deque[Unit] = deque()
        self._digests: dict[FileWork, tuple[Digest, ...]] = {}
        self._cursors: dict[FileWork, asyncio.Lock] = {}
        self._busy: set[Future[Any]] = set()

    async def run(self) -> list[tuple[FileWork, tuple[Digest, ...]]]:
        """Files with their digests, in the order given. Raises FetchError: of several, the most telling one."""
        try:
            await self._submit(self._hashing, self._recover)
            self._plan()
            async with asyncio.TaskGroup() as group:
                for number in range(min(len(self._units), self._lanes())):
                    group.create_task(self._lane(group), name=f"fetch-{self._key}-{number}")
        except BaseExceptionGroup as found:
            raise _most_telling(found) from found
        finally:
            await self._stop()
        return [(work, self._digests[work]) for work in self._works]

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
        sizes = [work.size for work in self._works]
        for indices in batches(sizes, part_size=self._part_size, lanes=self._lanes()):
            if len(indices) == 1:
                self._units.extend(Unit([part]) for part in self._parts(self._works[indices[0]]))
            else:
                self._units.append(
                    Unit([part for index in indices for part in self._parts(self._works[index])])
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

    async def _lane(self, group: asyncio.TaskGroup) -> None:
        while self._units:
            unit = self._units.popleft()
            unit.parts = [part for part in unit.parts if not part.void]
            if not unit.parts:
                continue
            files = unit.files
            for work in files:
                work.in_flight += 1
            await self._fetch(unit)
            for work in files:
                work.in_flight -= 1
                work.pending -= sum(
                    part.finished and not part.void for part in unit.parts if part.of is work
                )
                await self._settle(work, group)

    async def _fetch(self, unit: Unit) -> None:
        """Until all parts of the unit are there, or void. Raises what repeating does not mend."""
        failures = 0
        refused: set[FileWork] = set()
        while True:
            before = unit.moved
            try:
                await self._sign(unit)
                async with self._slots.hold(self._key):
                    await self._submit(self._threads, lambda: receive(unit, self._shop))
                return
            except RangesIgnored:
                unit.current.ranges, unit.current.restart = False, True
                if all(part.finished or part.void for part in unit.parts):
                    return
            except Refused as exc:
                work = unit.current
                work.route = None
                if work in refused and not self._next_origin(work):
                    raise exc.final from exc
                refused.add(work)
            except SourceChanged:
                raise
            except Retryable as exc:
                failures = 1 if unit.moved > before else failures + 1
                wait = exc.after if exc.after is not None else _pause(failures)
                if failures >= _TRIES or wait > _LONGEST_WAIT_SECONDS:
                    raise
                unit.current.route = None
                self._next_origin(unit.current)
                log.debug("range is tried again", key=self._key, why=exc.message, seconds=wait)
                await asyncio.sleep(wait)
            except Stalled as exc:
                if exc.reason is Reason.INSUFFICIENT_STORAGE or not self._next_origin(unit.current):
                    raise

    async def _sign(self, unit: Unit) -> None:
        for part in unit.parts:
            if not part.finished and part.of.size != 0:
                part.route = part.of.route = await self._route(part.of)

    async def _route(self, work: FileWork) -> Route | LocalPath:
        """The one there is, or a new one when it is about to expire or was refused."""
        route = work.route
        if isinstance(route, LocalPath):
            return route
        if isinstance(route, Route) and not route.expires(now=monotonic()):
            return route
        try:
            async with asyncio.timeout(_SIGN_SECONDS):
                signed = await self._origins[work.origin].sign(work.file)
        except TimeoutError as exc:
            raise Retryable(
                Reason.SOURCE_UNREACHABLE,
                f"{work.file.path}: no signed request within {_SIGN_SECONDS:.0f} s",
            ) from exc
        return signed if isinstance(signed, LocalPath) else new_route(signed)

    def _next_origin(self, work: FileWork) -> bool:
        """Go on to the next place that serves the file; False when there is no other."""
        if len(self._origins) < 2:
            return False
        work.origin = (work.origin + 1) % len(self._origins)
        work.route = None
        return work.origin != 0

    async def _settle(self, work: FileWork, group: asyncio.TaskGroup) -> None:
        if work.restart and work.in_flight == 0:
            self._again(work, sorted(work.done))
        elif work.pending == 0 and work.in_flight == 0 and work not in self._digests:
            await self._complete(work)
        elif work.sequential and work.pending:
            lock = self._cursors.setdefault(work, asyncio.Lock())
            if not lock.locked():
                group.create_task(self._advance(work, lock), name=f"hash-{self._key}")

    async def _advance(self, work: FileWork, lock: asyncio.Lock) -> None:
        async with lock:
            await self._submit(self._hashing, lambda: verify.advance(work, self._shop))

    async def _complete(self, work: FileWork) -> None:
        """All bytes are there: are they the right ones? A first mismatch fetches the bad ranges again."""
        async with self._cursors.setdefault(work, asyncio.Lock()):
            if work.sequential and work.hashed < (work.size or 0):
                found = await self._submit(self._hashing, lambda: verify.digests(work, self._shop))
            else:
                found = verify.digests(work, self._shop)
            if found is not None:
                self._digests[work] = found
                self._shop.progress.file_done()
                self._cursors.pop(work, None)
                return
            bad = await self._submit(self._hashing, lambda: verify.bad_ranges(work, self._shop))
        work.mismatches += 1
        log.warning(
            "content is not what the source states",
            key=self._key,
            file=work.file.path,
            ranges=len(bad),
        )
        if work.mismatches > 1:
            self._shop.journal.drop(work.id)
            stated = work.stated.algorithm.value if work.stated else "size"
            raise Stalled(
                Reason.CHECKSUM_MISMATCH,
                f"{work.file.path}: its {stated} is not what the source states, twice in a row",
            )
        self._again(work, bad)

    def _again(self, work: FileWork, bad: list[Range]) -> None:
        """Fetch these ranges of a file anew, keep the others."""
        kept = {part: crcs for part, crcs in work.done.items() if part not in set(bad)}
        lost = work.reset() - sum(part.size for part in kept)
        self._shop.progress.found(-lost)
        self._shop.journal.drop(work.id)
        work.done = kept
        for claim in verify.claims(work):
            self._shop.journal.add(work.id, claim, stated=work.learned)
        self._units.extend(Unit([part]) for part in self._parts(work))

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
        self._shop.close_after(list(self._busy))


async def _uncancelled(pause: Any) -> None:
    """Waits out a short pause even when the task is cancelled in it: cancelling is already under way."""
    task = asyncio.ensure_future(pause)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue


def _pause(failures: int) -> float:
    base, cap = _BACKOFF_SECONDS
    return delay(failures, base=base, cap=cap, jitter=random.random())  # noqa: S311  # spread, not secrecy


def _most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what several lanes raised: what needs a person, then what changed, then what may pass by itself."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        found = pending.pop()
        if isinstance(found, BaseExceptionGroup):
            pending.extend(found.exceptions)
        else:
            leaves.append(found)
    order = (Stalled, SourceChanged, FetchError, Stopped, HashingCancelled)

    def rank(found: BaseException) -> int:
        return next((i for i, kind in enumerate(order) if isinstance(found, kind)), -1)

    return min(leaves, key=rank)
