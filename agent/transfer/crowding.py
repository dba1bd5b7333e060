"""The small files of one fetch: how many connections bring them, and that these never wait for the event loop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Final

from agent.errors import FetchError, Retryable
from agent.transfer.attempts import Attempts
from agent.transfer.crew import Crew
from agent.transfer.crowd import Crowd
from agent.transfer.exchange import Exchange
from agent.transfer.flow import Flow
from agent.transfer.routes import Routes
from agent.transfer.todo import Todo
from agent.transfer.unit import Unit
from agent.transfer.workshop import Workshop
from shared.domain.reasons import Reason

# The first crowds have a unit each, and tell how many connections are worth while. A later one asks for places anew after
# 16,000 files, which costs it a round trip.
_ALONE: Final = 2
_UNITS: Final = 64
# A tenth of a second's work for the crowd, of which the disk needs a tenth.
_AHEAD_FILES: Final = 768

# Not structlog, whose import `pull` would wait for; a node routes both the same way.
log = logging.getLogger(__name__)


class _Units:
    """Those that were begun and are not ended."""

    def __init__(
        self, begin: Callable[[Unit], Unit], end: Callable[[Unit], Awaitable[None]]
    ) -> None:
        self._begin = begin
        self._end = end
        self._out: list[Unit] = []

    def begin(self, unit: Unit) -> Unit:
        self._out.append(self._begin(unit))
        return unit

    async def end(self, units: Sequence[Unit]) -> None:
        for unit in units:
            self._out.remove(unit)
            await self._end(unit)

    async def end_all(self) -> None:
        await self.end(list(self._out))


class Crowding:
    """One crowd after the other."""

    def __init__(
        self,
        todo: Todo,
        *,
        key: str,
        shop: Workshop,
        crew: Crew,
        flow: Flow,
        attempts: Attempts,
        routes: Routes,
        ahead: Callable[[], None],
    ) -> None:
        self._todo = todo
        self._key = key
        self._shop = shop
        self._crew = crew
        self._flow = flow
        self._attempts = attempts
        self._routes = routes
        self._ahead = ahead
        self._writing: Future[None] | None = None
        self._unwritten = 0
        self._crowd: tuple[Crowd, int] | None = None
        self._alone = _ALONE

    @property
    def leaving(self) -> int:
        """Places that are about to be given to others."""
        return self._crowd[1] if self._crowd and self._crowd[0].leaves else 0

    def leave(self) -> None:
        """All places at once: others wait for theirs."""
        if self._crowd:
            self._crowd[0].leaves = True

    async def run(
        self, begin: Callable[[Unit], Unit], end: Callable[[Unit], Awaitable[None]]
    ) -> None:
        """Until there is no small file that was not tried.

        begin: of a unit that is taken. end: of one that is over, whether its files are there or not.
        """
        while self._todo.crowds:
            await asyncio.sleep(self._attempts.pause)
            units = _Units(begin, end)
            each = self._flow.lines(self._todo.next_largest)
            first = await self._next(units)
            if first is not None:
                await self._bring(first, units, each)
                self._flow.tick()
            await units.end_all()

    async def _next(self, units: _Units) -> Unit | None:
        """None when it could not be signed."""
        unit = units.begin(self._todo.take_crowd())
        try:
            await self._routes.sign(unit)
        except FetchError as exc:
            self._failed(exc)
            return None
        return unit

    async def _bring(self, first: Unit, units: _Units, each: int) -> None:
        """By one crowd. each: connections in a place."""
        most = 1 if self._alone else _UNITS
        self._alone = max(0, self._alone - 1)
        async with self._attempts.hold_several(
            self._share(first, each), limit=self._flow.places_for_small
        ) as places:
            exchange = Exchange(self._shop.pool, self._crew.pools.transfer)
            exchange.add(first)
            crowd = Crowd(
                self._shop,
                exchange,
                width=places * each,
                welcome=lambda: self._attempts.pause == 0,
            )
            self._crowd = crowd, places
            running = asyncio.ensure_future(self._crew.do(self._crew.pools.transfer, crowd.run))
            running.add_done_callback(lambda _: exchange.wake())
            try:
                while not running.done():
                    over, hungry = await exchange.news()
                    if hungry:
                        most -= 1
                        unit = await self._next(units) if most and self._fits(each) else None
                        if unit is None:
                            exchange.close()
                        else:
                            exchange.add(unit)
                    await units.end(over)
                    self._write_ahead(sum(len(unit.parts) for unit in over))
                try:
                    await running
                except FetchError as exc:
                    self._failed(exc)
            finally:
                running.cancel()
                self._crowd = None

    def _fits(self, each: int) -> bool:
        """Whether there is another unit, whose files leave memory for so many connections in a place."""
        return self._todo.crowds > 0 and self._flow.lines(self._todo.next_largest) >= each

    def _write_ahead(self, files: int) -> None:
        """The disk works while others come; after the last one it would be waited for."""
        self._unwritten += files
        if self._unwritten >= _AHEAD_FILES and (self._writing is None or self._writing.done()):
            self._unwritten = 0
            self._writing = self._crew.begin(self._crew.pools.reading, self._ahead)

    def _failed(self, error: FetchError) -> None:
        """Raises what is too long a pause to be waited for here."""
        log.debug("small files go on one by one", extra={"key": self._key, "why": error.message})
        if isinstance(error, Retryable) and error.reason is Reason.SOURCE_THROTTLED:
            self._attempts.slow_down(error)

    def _share(self, unit: Unit, each: int) -> int:
        """Places for a crowd; large files, for which round trips do not count, have the other half."""
        width, enough = self._flow.places_for_small, -(-len(unit.parts) // each)
        return min(enough, max(1, width // 2) if self._todo.units(1) else width)
