"""Disks that fail: by an error at one step, or by losing power."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from agent.storage import durability
from agent.storage.disk import Disk

_STEPS = frozenset(name for name in vars(Disk) if not name.startswith("_"))


class Crash(BaseException):
    """The machine is off. Not an `Exception`: no handler of the program may survive it."""


class SteppingDisk(Disk):
    """Calls `before` ahead of each step with its name and arguments."""

    def __init__(self, before: Callable[..., None]) -> None:
        self.before = before

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return partial(self._step, name, found) if name in _STEPS else found

    def _step(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        self.before(name, *args)
        return call(*args)


def failing_disk(code: int, *, at: str, after: int = 0) -> Disk:
    """The step named `at` fails once, after it has succeeded `after` times."""
    left = after

    def before(name: str, *_: Any) -> None:
        nonlocal left
        if name == at:
            left -= 1
            if left == -1:
                raise OSError(code, os.strerror(code))

    return SteppingDisk(before)


def counting_disk(steps: list[str]) -> Disk:
    """Every step's name is appended."""
    return SteppingDisk(lambda name, *_: steps.append(name))


class CrashingDisk(Disk):
    """Power is lost before step `after`: a write is torn, and content that was not synced is gone.

    unsynced: files that somebody else wrote and did not sync.
    """

    def __init__(self, after: int, *, unsynced: tuple[Path, ...] = (), exchanges: bool = True):
        self.steps = 0
        self._after = after
        self._exchanges = exchanges
        self._off = False
        self._dirty: dict[int, int] = {}
        for path in unsynced:
            self._remember(os.open(path, os.O_WRONLY))

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return partial(self._step, name, found) if name in _STEPS else found

    def _step(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        if self._off:
            raise Crash
        if self.steps == self._after:
            if name == "write":
                os.write(args[0], bytes(args[1][: len(args[1]) // 2]))
            if name == "sync_several":
                self._synced(args[0][: len(args[0]) // 2])
            self.power_off()
            raise Crash
        self.steps += 1
        if name == "exchange" and not self._exchanges:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        result = call(*args)
        match name:
            case "create":
                self._remember(os.dup(result))
            case "sync":
                self._synced(args[:1])
            case "sync_several":
                self._synced(args[0])
            case "sync_all":
                for inode in list(self._dirty):
                    self._forget(inode)
        return result

    def power_off(self) -> None:
        """What was not synced has no content any more."""
        self._off = True
        for fd in self._dirty.values():
            os.ftruncate(fd, 0)
            os.close(fd)
        self._dirty.clear()

    def _synced(self, fds: Sequence[int]) -> None:
        for fd in fds:
            self._forget(os.fstat(fd).st_ino)

    def _remember(self, fd: int) -> None:
        self._dirty[os.fstat(fd).st_ino] = fd

    def _forget(self, inode: int) -> None:
        fd = self._dirty.pop(inode, None)
        if fd is not None:
            os.close(fd)


@contextlib.contextmanager
def in_one_go() -> Iterator[None]:
    """Every publication is made durable at once, however few files it has, on whatever file system, and whoever staged it."""
    with (
        mock.patch.object(durability, "_MANY_FILES", 1),
        mock.patch.object(durability, "_unwritten", return_value=0),
        mock.patch.object(durability, "_tells_all", return_value=True),
        mock.patch.object(durability, "_staged", return_value=frozenset()),
    ):
        yield
