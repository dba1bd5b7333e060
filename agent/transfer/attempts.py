"""What happens when a range does not come: once more, elsewhere, later, or not at all."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.transfer import silence
from agent.transfer.answers import RangesIgnored, Refused
from agent.transfer.budget import Slots
from agent.transfer.checksums import HashingCancelled
from agent.transfer.flow import MOST_THREADS, Flow
from agent.transfer.pace import Restraint
from agent.transfer.routes import Routes
from agent.transfer.unit import GaveWay, Unit
from agent.transfer.workshop import Stopped
from shared.domain.backoff import delay
from shared.domain.reasons import Reason

# Failures in a row without bytes in between that are worth it; then the caller shows the failure and a next retry time.
_TRIES: Final = 5
_BACKOFF_SECONDS: Final = (0.2, 5.0)
# A source that asks for a longer wait is waited for by the caller, who lets others use the connections meanwhile.
_LONGEST_WAIT_SECONDS: Final = 30.0

log = logging.getLogger(__name__)


class Attempts:
    """All attempts of one fetch: when its source asks one of them to wait, all do, and go on over fewer connections."""

    def __init__(self, key: str, *, routes: Routes, flow: Flow) -> None:
        self._key = key
        self._routes = routes
        self._flow = flow
        self._not_before = 0.0
        self._restraint = Restraint(most=MOST_THREADS)
        # Of the budget's places, those that the source lets this fetch have: others go on over all of theirs.
        self._welcome = Slots(MOST_THREADS)

    @property
    def pause(self) -> float:
        """Seconds for which the source wants to be left alone."""
        return max(0.0, self._not_before - monotonic())

    def slow_down(self, error: Retryable, *, failures: int = 1) -> None:
        """A source asked for a pause. Raises `error` when that is too long to be waited for here."""
        wait = error.after if error.after is not None else _pause(failures)
        if wait > _LONGEST_WAIT_SECONDS:
            raise error
        self._flow.retries[error.reason] += 1
        self._restraint.slow_down(now=monotonic(), share=self._flow.share)
        self.tick()
        self._not_before = max(self._not_before, monotonic() + wait)

    def tick(self) -> None:
        """To be called as often as `Flow.tick`: the source is not spared for ever."""
        self._welcome.resize(self._restraint.width(now=monotonic()))

    @property
    def idle(self) -> int:
        """Places that nobody needs; negative when more are needed than there are."""
        return min(slots.capacity - slots.wanted for slots in (self._flow.slots, self._welcome))

    @asynccontextmanager
    async def hold_several(self, most: int, *, limit: int) -> AsyncIterator[int]:
        """Places for this fetch, as `Slots.hold_several`."""
        async with (
            self._welcome.hold_several(self._key, most) as welcome,
            self._flow.slots.hold_several(self._key, welcome, limit=limit) as count,
        ):
            yield count

    async def fetch(self, unit: Unit, receive: Callable[[Unit], Awaitable[None]]) -> None:
        """Until all parts of the unit are there, or void. Raises what repeating does not mend.

        receive: brings what is missing of a unit, in a thread.
        """
        failures = 0
        for work in unit.refused.intersection(unit.files):
            await self._routes.renew(work)
        while True:
            before, began = unit.moved, monotonic()
            try:
                await asyncio.sleep(self.pause)
                await self._routes.sign(unit)
                async with self._welcome.hold(self._key), self._flow.slots.hold(self._key):
                    if self.pause:
                        # Asked for while this one waited for its place.
                        continue
                    began = monotonic()
                    await receive(unit)
                return
            except RangesIgnored:
                unit.current.ranges, unit.current.restart = False, True
                if all(part.finished or part.void for part in unit.parts):
                    return
            except Refused as exc:
                work = unit.current
                if unit.moved > before:
                    # What was signed anew has served meanwhile, and has run out by now.
                    unit.refused.discard(work)
                if work not in unit.refused:
                    await self._routes.renew(work)
                elif not self._routes.go_on(work):
                    raise exc.final from exc
                unit.refused.add(work)
            except GaveWay:
                unit.began = None
            except SourceChanged:
                raise
            except Retryable as exc:
                enough = (monotonic() - began) * silence.LEAST_RATE
                failures = 1 if unit.moved - before > enough else failures + 1
                if failures >= _TRIES:
                    raise
                await self._later(unit, exc, failures)
            except Stalled as exc:
                if exc.reason is Reason.INSUFFICIENT_STORAGE or not self._routes.go_on(
                    unit.current
                ):
                    raise

    async def _later(self, unit: Unit, error: Retryable, failures: int) -> None:
        log.debug("range is tried again", extra={"key": self._key, "why": error.message})
        if error.reason is Reason.SOURCE_THROTTLED:
            self.slow_down(error, failures=failures)
        else:
            self._flow.retries[error.reason] += 1
            await asyncio.sleep(_pause(failures))
        self._routes.go_on(unit.current)


def _pause(failures: int) -> float:
    base, cap = _BACKOFF_SECONDS
    return delay(failures, base=base, cap=cap, jitter=random.random())  # noqa: S311  # spread, not secrecy


def most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
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
