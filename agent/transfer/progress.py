"""How far a fetch is; written by threads, read by whoever shows it."""

import threading
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True)
class Snapshot:
    """bytes_done: on disk, resumed ones included. bytes_moved: over the network this time. files_done: verified.

    first, last: when bytes came over the network, by the monotonic clock; None before any came.
    """

    bytes_done: int
    bytes_moved: int
    files_done: int
    first: float | None = None
    last: float | None = None


class Progress:
    """Thread-safe counters of one fetch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._moved = 0
        self._files = 0
        self._first: float | None = None
        self._last: float | None = None

    def received(self, count: int) -> None:
        """Bytes came over the network and were written."""
        with self._lock:
            self._done += count
            self._moved += count
            self._last = monotonic()
            if self._first is None:
                self._first = self._last

    def found(self, count: int) -> None:
        """Bytes that need no transfer: resumed, or copied on this machine. Negative when they turn out to be bad."""
        with self._lock:
            self._done += count

    def file_done(self) -> None:
        with self._lock:
            self._files += 1

    def snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(self._done, self._moved, self._files, self._first, self._last)
