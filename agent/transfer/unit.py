"""What one thread does at a time, and how it gets on."""

import math
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from agent.transfer.work import LEAST_CUT, FileWork, PartWork

# Connections have come up to speed by then.
_JUDGE_SECONDS: Final = 0.5
# Before that, at least what a fast connection takes is left: of a long part something may be cut off at once.
_FAST: Final = 128 << 20


class GaveWay(Exception):
    """The place is another copy's now; what came is kept, and the rest waits its turn."""


@dataclass(slots=True, eq=False)
class Unit:
    """What one thread does at a time: a part of a large file, or a batch of small ones.

    refused: files whose signature was refused once. began: when the first thread set out, and how many bytes it had; a
    monotonic clock's.
    """

    parts: list[PartWork]
    refused: set[FileWork] = field(default_factory=set)
    began: tuple[float, int] | None = None

    @property
    def files(self) -> list[FileWork]:
        return list(dict.fromkeys(part.of for part in self.parts))

    @property
    def current(self) -> FileWork:
        """The file at which the unit stands."""
        return next((part.of for part in self.parts if not part.finished), self.parts[-1].of)

    @property
    def moved(self) -> int:
        """Grows whenever the unit gets on."""
        return sum(part.at - part.start + part.finished for part in self.parts)

    @property
    def leaves(self) -> bool:
        return any(part.leaves for part in self.parts)

    def leave(self) -> None:
        """From another thread: what is received now is the last of it for now."""
        for part in self.parts:
            part.leaves = True

    def set_out(self) -> None:
        """A thread begins with it, and stays until it is told otherwise."""
        self.began = self.began or (monotonic(), self.moved)
        for part in self.parts:
            part.leaves = False

    @property
    def can_leave(self) -> bool:
        """Whether it comes in ranges, or file by file; what came of a stream would have to come again."""
        return len(self.parts) > 1 or self.parts[0].divisible

    @property
    def straggles(self) -> bool:
        """Whether its connection is much slower than another that has brought a range of the same file."""
        if self.began is None:
            return False
        elapsed, moved = monotonic() - self.began[0], self.moved - self.began[1]
        return moved * 4 < self.parts[0].of.rate * elapsed

    def seconds_left(self) -> float:
        """At the rate so far, at a high one while that is unknown; 0 where nothing can be cut off."""
        if self.began is None or len(self.parts) != 1 or not self.parts[0].divisible:
            return 0.0
        elapsed, moved = monotonic() - self.began[0], self.moved - self.began[1]
        left = (self.parts[0].end or 0) - self.parts[0].taken
        if left < 2 * LEAST_CUT:
            return 0.0
        if elapsed < _JUDGE_SECONDS:
            return left / _FAST
        return left * elapsed / moved if moved else math.inf
