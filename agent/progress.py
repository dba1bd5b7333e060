"""What a running copy shows of itself; the pipeline writes it, the status and the command line read it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from agent.planning.desired import Access
from agent.planning.retry import SecretVersions
from agent.transfer.progress import Progress
from shared.domain.reasons import Reason

# A rate over less than this jumps too much to be read; over more it lags behind a change.
_RATE_SECONDS = 15.0


@dataclass(slots=True)
class CopyWatch:
    """Bytes. total: of the whole model, None until known; reused: of these, what needed no transfer; shared: what came free
    because another model had it.

    on_phase: called in the loop whenever `phase` or what belongs to it changes.
    """

    on_phase: Callable[[], None] = lambda: None
    started: datetime | None = None
    phase: Reason = Reason.RESOLVING
    revision: str | None = None
    pinned: bool = False
    total: int | None = None
    reused: int = 0
    shared: int = 0
    progress: Progress = field(default_factory=Progress)
    secrets: dict[Access, SecretVersions] = field(default_factory=dict)
    rate: "Rate" = field(default_factory=lambda: Rate())
    _moved_before: int = 0
    _counted: int = 0

    def begin(self) -> None:
        """The fetch starts over, because the source changed; what was moved for nothing still counts as moved."""
        self._moved_before += self.progress.snapshot().bytes_moved
        self.progress = Progress()
        self.reused = 0

    def enter(self, phase: Reason) -> None:
        """The next step begins."""
        if phase is not self.phase:
            self.phase = phase
            self.on_phase()

    def resolved(self, *, revision: str, pinned: bool, total: int | None) -> None:
        """What the source said."""
        self.revision, self.pinned, self.total = revision, pinned, total
        self.on_phase()

    @property
    def done(self) -> int:
        """Bytes on disk."""
        return self.reused + self.progress.snapshot().bytes_done

    @property
    def moved(self) -> int:
        """Bytes that came over the network since the copy began; resumed ones not included."""
        return self._moved_before + self.progress.snapshot().bytes_moved

    def uncounted(self) -> int:
        """Bytes moved since this was asked last."""
        moved = self.moved
        new, self._counted = moved - self._counted, moved
        return new


class Rate:
    """Bytes per second over the last seconds; monotonic time in, so that a changed clock does not matter."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, at: float, moved: int) -> None:
        """`moved`: bytes since the copy began, resumed ones not included."""
        self._samples.append((at, moved))
        while len(self._samples) > 2 and at - self._samples[1][0] >= _RATE_SECONDS:
            self._samples.popleft()

    def per_second(self) -> int | None:
        """None until two samples are apart."""
        if len(self._samples) < 2:
            return None
        (first, before), (last, now) = self._samples[0], self._samples[-1]
        return int(max(now - before, 0) / (last - first)) if last > first else None
