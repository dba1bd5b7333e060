"""`python -IS runner.py RESULT LOG KILL_AT COMMAND…`: run the command, and write what it used to RESULT, as JSON.

A process of its own and the standard library alone: a child's peak begins at the size of whoever started it.
KILL_AT: bytes written after which the command is killed by -9; 0 = never. It is killed too when it takes minutes.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

_SAMPLE_SECONDS = 0.05
# For 4 GiB that is 14 MB/s: no result worth waiting for.
_LONGEST_SECONDS = 300.0


class Family:
    """A process and its descendants, looked at now and then. peak: bytes they held together, shared pages once."""

    def __init__(self, pid: int, kill_at: int) -> None:
        self._pid = pid
        self._kill_at = kill_at
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak = 0

    def __enter__(self) -> "Family":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        deadline = time.monotonic() + _LONGEST_SECONDS
        while not self._ended.wait(_SAMPLE_SECONDS):
            members = [self._pid, *_children(self._pid)]
            # Of one process alone the kernel itself tells the peak.
            if len(members) > 1:
                self.peak = max(self.peak, sum(map(_proportional, members)))
            enough = self._kill_at and sum(map(_written, members)) >= self._kill_at
            if enough or time.monotonic() > deadline:
                for pid in reversed(members):
                    os.kill(pid, signal.SIGKILL)
                return


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for text in _read_all(Path(f"/proc/{pid}/task").glob("*/children")):
        for child in map(int, text.split()):
            found += [child, *_children(child)]
    return found


def _proportional(pid: int) -> int:
    for text in _read_all([Path(f"/proc/{pid}/smaps_rollup")]):
        return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line[:4] == "Pss:")
    return 0


def _written(pid: int) -> int:
    for text in _read_all([Path(f"/proc/{pid}/io")]):
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("wchar"))
    return 0


def _read_all(paths: Any) -> list[str]:
    """What can still be read: processes end while one looks."""
    found = []
    try:
        for path in paths:
            found.append(path.read_text())
    except OSError:
        pass
    return found


def main() -> None:
    result, log, kill_at, *command = sys.argv[1:]
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    started = time.monotonic()
    pid = os.posix_spawnp(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, nothing, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ],
    )
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGKILL))
    with Family(pid, int(kill_at)) as family:
        _, status, used = os.wait4(pid, 0)
        wall = time.monotonic() - started
    Path(result).write_text(
        json.dumps(
            {
                "code": os.waitstatus_to_exitcode(status),
                "wall": wall,
                "cpu": used.ru_utime + used.ru_stime,
                "system": used.ru_stime,
                "peak": max(used.ru_maxrss << 10, family.peak),
            }
        )
    )


if __name__ == "__main__":
    main()
