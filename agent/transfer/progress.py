"""How far a fetch is; written by threads, read by whoever shows it."""

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snapshot:
    """bytes_done: on disk, resumed ones included. bytes_moved: over the network this time. files_done: verified."""

    bytes_done: int
    bytes_moved: int
    files_done: int


class Progress:
    """Thread-safe counters of one fetch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = 0
        self._moved = 0
        self._files = 0

    def received(self, count: int) -> None:
        """Bytes came over the network and were written."""
        with self._lock:
            self._done += count
            self._moved += count

    def found(self, count: int) -> None:
        """Bytes that need no transfer: resumed, or copied on this machine. Negative when they turn out to be bad."""
        with self._lock:
            self._done += count

    def file_done(self) -> None:
        with self._lock:
            self._files += 1

    def snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(self._done, self._moved, self._files)
