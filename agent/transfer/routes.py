"""Where files are asked for: at which of several places, signed by it for a while."""

import asyncio
from collections.abc import Awaitable, Sequence
from time import monotonic
from typing import Final, TypeVar

from agent.errors import Retryable, SourceChanged
from agent.origin import LocalPath, Origin, Readable, Renewable, SignedRequest
from agent.transfer.ask import new_route
from agent.transfer.unit import Unit
from agent.transfer.work import FileWork, Route
from shared.domain.reasons import Reason

# Signing asks nobody, or a token service once in a while.
_SIGN_SECONDS: Final = 60.0
# Moving that limit for each of many files would take longer than most signatures.
_STEP_SECONDS: Final = 1.0
# All bytes of the file are there: worth more than one try.
_LOOKS: Final = 3


T = TypeVar("T")


class Routes:
    """origins: places that serve the same files, best first."""

    def __init__(self, origins: Sequence[Origin]) -> None:
        self._origins = origins

    async def sign(self, unit: Unit) -> None:
        """Give every part that is still to be fetched a route that is valid now. Raises FetchError."""
        work, clock = unit.current, asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(_SIGN_SECONDS) as bound:
                for part in unit.parts:
                    if part.finished or part.of.size == 0:
                        continue
                    work = part.of
                    part.route = work.route = await self._route(work)
                    if (now := clock()) - began >= _STEP_SECONDS:
                        began = now
                        bound.reschedule(now + _SIGN_SECONDS)
        except TimeoutError as exc:
            raise _too_late(work) from exc

    def go_on(self, work: FileWork) -> bool:
        """To the next place that serves the file; False when that is the first one again, or there is no other."""
        work.route = None
        if len(self._origins) < 2:
            return False
        work.origin = (work.origin + 1) % len(self._origins)
        return work.origin != 0

    async def renew(self, work: FileWork) -> None:
        """What was signed for the file is refused: sign anew, and with the credentials of now. Raises FetchError."""
        work.route = None
        origin = self._origins[work.origin]
        if isinstance(origin, Renewable):
            await _in_time(origin.renew(), work)

    async def look_again(self, work: FileWork) -> None:
        """After the last byte: is the file still the listed one? Where no answer can tell, its source does.

        Raises FetchError. A file of which nothing was asked for now is as its listing said, which is younger.
        """
        route = work.route
        if isinstance(route, LocalPath | Readable) or (route and route.signed.watched):
            for failures in range(1, _LOOKS):
                try:
                    await self._signed(work)
                    return
                except SourceChanged:
                    raise
                except Retryable:
                    await asyncio.sleep(failures)
            await self._signed(work)

    async def _route(self, work: FileWork) -> Route | LocalPath | Readable:
        """The one there is, or a new one when it is about to expire or was refused."""
        route = work.route
        if isinstance(route, LocalPath | Readable):
            return route
        if isinstance(route, Route) and not route.expires(now=monotonic()):
            return route
        signed = await self._origins[work.origin].sign(work.file)
        return signed if isinstance(signed, LocalPath | Readable) else new_route(signed)

    async def _signed(self, work: FileWork) -> SignedRequest | LocalPath | Readable:
        return await _in_time(self._origins[work.origin].sign(work.file), work)


async def _in_time(asked: Awaitable[T], work: FileWork) -> T:
    try:
        async with asyncio.timeout(_SIGN_SECONDS):
            return await asked
    except TimeoutError as exc:
        raise _too_late(work) from exc


def _too_late(work: FileWork) -> Retryable:
    return Retryable(
        Reason.SOURCE_UNREACHABLE,
        f"{work.file.path}: no signed request within {_SIGN_SECONDS:.0f} s",
    )
