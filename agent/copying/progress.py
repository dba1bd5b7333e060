"""What a running copy shows of itself; the pipeline writes it, the status and the command line read it."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from time import monotonic

from agent.planning.desired import Access
from agent.planning.retry import SecretVersions
from agent.transfer.progress import Progress
from shared.domain.reasons import Reason
from shared.ops.tracing import Step

# A rate over less than this jumps too much to be read; over more it lags behind a change.
_RATE_SECONDS = 15.0


class Phase(StrEnum):
    """What the time of a copy is spent with. Admit: until the disk has room for it. First byte: until bytes come, what is resumed is checked meanwhile."""

    RESOLVE = "resolve"
    ADMIT = "admit"
    FIRST_BYTE = "first_byte"
    TRANSFER = "transfer"
    VERIFY = "verify"
    UNPACK = "unpack"
    PUBLISH = "publish"


@dataclass(slots=True)
class CopyWatch:
    """Bytes. total: of the whole model, None until known; reused: of these, what needed no transfer; shared: what came free
    because another model had it.

    on_phase: called in the loop whenever `phase` or what belongs to it changes. began: monotonic seconds. steps: as they ended.
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
    began: float = field(default_factory=monotonic)
    steps: list[Step] = field(default_factory=list)
    _moved_before: int = 0
    _counted: int = 0
    _seen: tuple[Reason, int] | None = None
    _seen_at: float = 0.0

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

    @contextmanager
    def spending(self, phase: Phase) -> Iterator[None]:
        """The block is a step of its own."""
        started, succeeded = monotonic(), False
        try:
            yield
            succeeded = True
        finally:
            self.steps.append(Step(phase, started, monotonic(), succeeded))

    @contextmanager
    def transferring(self) -> Iterator[None]:
        """The block fetches: until the first byte, until the last one, until all of them are verified."""
        started, succeeded = monotonic(), False
        try:
            yield
            succeeded = True
        finally:
            ended, moved = monotonic(), self.progress.snapshot()
            if moved.first is None or moved.last is None:
                self.steps.append(Step(Phase.TRANSFER, started, ended, succeeded))
            elif succeeded:
                self.steps.append(Step(Phase.FIRST_BYTE, started, moved.first))
                self.steps.append(Step(Phase.TRANSFER, moved.first, moved.last))
                self.steps.append(Step(Phase.VERIFY, moved.last, ended))
            else:
                self.steps.append(Step(Phase.FIRST_BYTE, started, moved.first))
                self.steps.append(Step(Phase.TRANSFER, moved.first, ended, succeeded))

    def spent(self) -> dict[Phase, float]:
        """Seconds by phase, of steps that succeeded."""
        spent: dict[Phase, float] = {}
        for step in self.steps:
            if step.succeeded:
                phase = Phase(step.name)
                spent[phase] = spent.get(phase, 0.0) + step.ended - step.started
        return spent

    def stands_since(self, now: float) -> float:
        """Seconds for which neither phase nor bytes have changed, as far as those who ask have seen."""
        seen = (self.phase, self.done)
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        return now - self._seen_at

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
