"""One fetch from its first range to its last digest."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from agent.errors import SourceChanged
from agent.manifest import RemoteFile
from agent.origin import Origin
from agent.transfer.attempts import Attempts, most_telling
from agent.transfer.closing import Closing, FetchedFile
from agent.transfer.crew import Crew, Pools
from agent.transfer.crowding import Crowding
from agent.transfer.flow import Flow
from agent.transfer.pace import TICK_SECONDS
from agent.transfer.receive import receive
from agent.transfer.routes import Routes
from agent.transfer.todo import Todo
from agent.transfer.unit import Unit
from agent.transfer.work import FileWork
from agent.transfer.workshop import Workshop

# A part that takes less is not worth another connection, which has to be opened and come up to speed.
_WORTH_SECONDS: Final = 1.0

# Not structlog, whose import `pull` would wait for; a node routes both the same way.
log = logging.getLogger(__name__)


class Run:
    """Units of work are taken by lanes; a lane holds a slot of the budget while its thread works."""

    def __init__(
        self,
        *,
        files: Sequence[RemoteFile],
        origins: Sequence[Origin],
        ahead: Callable[[], None],
        key: str,
        shop: Workshop,
        flow: Flow,
        pools: Pools,
        part_size: int,
    ) -> None:
        self._key = key
        self._shop = shop
        self._flow = flow
        self._files = len(files)
        self._crew = Crew(pools, shop)
        self._routes = Routes(origins)
        self._attempts = Attempts(key, routes=self._routes, flow=flow)
        self._todo = Todo(files, part_size=part_size)
        self._closing = Closing(
            files, key=key, shop=shop, crew=self._crew, flow=flow, routes=self._routes
        )
        self._running: set[Unit] = set()
        self._receiving: set[Unit] = set()
        self._crowding = Crowding(
            self._todo,
            key=key,
            shop=shop,
            crew=self._crew,
            flow=flow,
            attempts=self._attempts,
            routes=self._routes,
            ahead=ahead,
        )
        self._active = 0

    async def run(self) -> list[FetchedFile]:
        """In the order given. Raises FetchError: of several, the most telling one."""
        try:
            begun = await self._recover()
            self._todo.plan(self._closing.open_files(), begun, width=self._flow.share)
            async with asyncio.TaskGroup() as group:
                if self._closing.left:
                    group.create_task(self._watch(group), name=f"pace-{self._key}")
                if self._todo.crowds:
                    group.create_task(
                        self._crowding.run(
                            self._begin, lambda unit: self._end_crowded(unit, group)
                        ),
                        name=f"crowd-{self._key}",
                    )
                self._start_lanes(group)
        except BaseExceptionGroup as found:
            raise most_telling(found) from found
        finally:
            await self._crew.stop()
            self._closing.forget_changed()
            self._crew.close()
        return self._closing.fetched

    @property
    def waiting(self) -> int:
        return len(self._todo)

    def describe(self) -> dict[str, Any]:
        return {
            "key": self._key,
            "files": self._files,
            "files_done": self._files - self._closing.left,
            "units_waiting": len(self._todo),
            "threads": len(self._crew),
            "bytes_done": self._shop.progress.snapshot().bytes_done,
        }

    async def _recover(self) -> dict[int, FileWork]:
        if self._shop.journal.is_empty:
            return {}
        return await self._crew.do_in_turns(self._crew.pools.reading, self._closing.recover())

    def _start_lanes(self, group: asyncio.TaskGroup) -> None:
        for _ in range(self._todo.units(self._flow.most - self._active)):
            self._active += 1
            group.create_task(self._lane(group), name=f"fetch-{self._key}-{self._active}")

    async def _lane(self, group: asyncio.TaskGroup) -> None:
        while (taken := self._todo.take()) is not None:
            unit = self._begin(taken)
            if unit.parts:
                try:
                    await self._attempts.fetch(unit, self._receive)
                except SourceChanged:
                    self._closing.changed(unit.current)
                    raise
                await self._end(unit, group)
        self._active -= 1

    async def _receive(self, unit: Unit) -> None:
        unit.set_out()
        self._receiving.add(unit)
        try:
            await self._crew.do(self._crew.pools.transfer, lambda: receive(unit, self._shop))
        finally:
            self._receiving.discard(unit)

    async def _watch(self, group: asyncio.TaskGroup) -> None:
        while not self._closing.over.is_set():
            self._flow.tick()
            self._attempts.tick()
            self._give_way()
            self._relieve(group)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.over.wait(), TICK_SECONDS)

    def _give_way(self) -> None:
        """Others who wait have a share of the places too, however long it takes to bring what is under way there.

        A crowd leaves all of its places at once, where single ones are not enough.
        """
        owed = self._flow.slots.owed(self._key)
        owed -= self._crowding.leaving
        able = [unit for unit in self._receiving if unit.can_leave]
        owed -= sum(unit.leaves for unit in able)
        staying = [unit for unit in able if not unit.leaves]
        for unit in sorted(staying, key=Unit.seconds_left, reverse=True):
            if owed > 0:
                unit.leave()
                owed -= 1
        if owed > 0:
            self._crowding.leave()

    def _relieve(self, group: asyncio.TaskGroup) -> None:
        """Whoever has the most left to do gives half of it to a connection that has nothing to do.

        One part more than there are connections waits, which shows that more of them may be worth while.
        """
        for _ in range(0 if self._todo else self._attempts.idle + 1):
            slowest = max(self._running, key=Unit.seconds_left, default=None)
            if slowest is None or slowest.seconds_left() < _WORTH_SECONDS:
                break
            rest = slowest.parts[0].cut()
            if rest is None and slowest.straggles:
                rest = slowest.parts[0].cut(in_vain=True)
            if rest is None:
                break
            rest.of.pending += 1
            self._todo.add([Unit([rest])])
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

    async def _end_crowded(self, unit: Unit, group: asyncio.TaskGroup) -> None:
        """What did not take the plain course in a crowd goes on in lanes."""
        rest = [part for part in unit.parts if not part.finished]
        await self._end(unit, group)
        each = -(-len(rest) // self._flow.most)
        self._todo.add(
            Unit(rest[start : start + each], refused=unit.refused)
            for start in range(0, len(rest), each or 1)
        )
        self._start_lanes(group)

    async def _settle(self, work: FileWork, group: asyncio.TaskGroup) -> None:
        if work.restart and work.in_flight == 0:
            self._closing.reset(work, list(work.done))
        elif work.pending == 0 and work.in_flight == 0 and not self._closing.is_closed(work):
            if await self._closing.close(work):
                return
        else:
            if work.sequential and work.pending:
                group.create_task(self._closing.hash_on(work), name=f"hash-{self._key}")
            return
        self._todo.again(work)
        self._start_lanes(group)
