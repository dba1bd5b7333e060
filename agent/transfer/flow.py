"""The one budget at work: places for connections, bytes per second, and how many of the places are worth while."""

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from agent.transfer.budget import BUFFER_BYTES, Budget, Slots, Throttle
from agent.transfer.line import room
from agent.transfer.pace import Pace
from agent.transfer.pool import Pool
from shared.domain.reasons import Reason

# Threads that may ever be asked for; they start when they are needed.
MOST_THREADS: Final = 256
# What one thread brings at most.
_FILES_PER_SECOND: Final = 10_000


@dataclass(frozen=True, slots=True)
class Figures:
    """connections: in use now, worth while, allowed. waiting: ranges and batches of files that no connection brings yet.

    Since the start: retries, ranges that were asked for again, by reason; mismatches, files whose content was not what
    the source states.
    """

    connections: tuple[int, int, int]
    waiting: int
    retries: Counter[Reason]
    mismatches: int


class Flow:
    """Shared by all fetches of a process; for one event loop."""

    def __init__(self, budget: Budget, pool: Pool) -> None:
        self.pool = pool
        self.throttle = Throttle(budget.bytes_per_second)
        self.copies = 0
        self.retries: Counter[Reason] = Counter()
        self.mismatches = 0
        self._budget = budget
        self._pace = Pace(most=places(budget))
        self.slots = Slots(self._pace.width)

    @property
    def most(self) -> int:
        """Connections that the budget allows."""
        return places(self._budget)

    @property
    def share(self) -> int:
        """Connections that each copy can have at least."""
        return max(1, self.slots.capacity // max(1, self.copies))

    def lines(self, largest: int) -> int:
        """Connections for small files of at most `largest` bytes in a place: they share one thread, and its buffer's memory."""
        return max(1, min(self._budget.connections // self.most, BUFFER_BYTES // room(largest)))

    @property
    def places_for_small(self) -> int:
        """Those worth while for small files: on a long link as many as keep one thread busy with their answers."""
        wanted = (
            (self.pool.latency or 0) * _FILES_PER_SECOND * self.most // self._budget.connections
        )
        return max(self.slots.capacity, min(self.most, int(wanted)))

    def set_budget(self, budget: Budget) -> None:
        """Takes effect at once for the rate, and for connections with each next part."""
        self._budget = budget
        self._pace.limit(places(budget))
        self.throttle.set_rate(budget.bytes_per_second)
        self.slots.resize(self._pace.width)

    def tick(self) -> None:
        """To be called every `pace.TICK_SECONDS` or oftener while anything is fetched."""
        width = self._pace.look(
            now=time.monotonic(),
            moved=self.throttle.moved,
            wanted=self.slots.wanted,
            copies=self.copies,
            latency=self.pool.latency,
        )
        self.slots.resize(width)

    def rest(self) -> None:
        """Nothing is fetched any more; what comes next may be elsewhere."""
        self._pace = Pace(most=self.most)
        self.pool.forget_latency()
        self.slots.resize(self._pace.width)

    def figures(self, *, waiting: int) -> Figures:
        return Figures(
            connections=(len(self.pool), self._pace.width, self.most),
            waiting=waiting,
            retries=self.retries.copy(),
            mismatches=self.mismatches,
        )

    def describe(self) -> dict[str, Any]:
        return {
            "connections": {
                "used": len(self.pool),
                "worth_while": self._pace.width,
                "limit": self.most,
            },
            "bytes_per_second": self._budget.bytes_per_second,
            "threads": threading.active_count(),
        }


def places(budget: Budget) -> int:
    """Connections at a time: each holds one buffer and one open file."""
    by_memory = budget.bytes_in_flight // BUFFER_BYTES
    return max(1, min(budget.connections, by_memory, budget.open_files, MOST_THREADS))
