"""A process that dies at one of its system calls, and a disk that then loses power: for code that calls the system itself."""

import contextlib
import os
import random
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Self
from unittest import mock

from agent.storage.disk import Disk
from agent.transfer import files as transfer_files
from tests.support.disks import Crash

_BY_NAME: Final = ("mkdir", "rmdir", "unlink", "remove", "rename", "replace", "link", "chmod")
_BY_DESCRIPTOR: Final = ("ftruncate", "fchmod", "fchown", "fsync", "fdatasync")
_PAGE: Final = 4096
_CREATES: Final = os.O_CREAT | os.O_TRUNC


class Syscalls:
    """Counts what this process does to the disk below `root`, from whatever thread. At call number `dies_at` it is dead.

    That call is done in part, if it can be and as far as `torn` says (0 to 1); from then on every one raises `Crash` and
    does nothing. Other folders are not touched. done: calls so far.
    """

    def __init__(
        self, root: Path, *, power: "Power", dies_at: int | None = None, torn: float = 0
    ) -> None:
        self.done = 0
        self.dead = False
        self._root = root
        self._power = power
        self._dies_at = dies_at
        self._torn = torn
        self._lock = threading.RLock()
        self._open: set[int] = set()
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for name in _BY_NAME:
            self._patch(name, self._by_name)
        for name in _BY_DESCRIPTOR:
            self._patch(name, self._by_descriptor)
        for name in ("write", "pwrite"):
            self._patch(name, self._writing)
        self._patches.enter_context(mock.patch.object(Disk, "sync_all", self._syncing_all))
        self._patch("open", self._opening)
        self._patch("dup", self._duplicating)
        self._patch("close", self._closing)
        libc = transfer_files._libc
        fallocate = self._allocating(libc.fallocate)
        whole = SimpleNamespace(fallocate=fallocate, sync_file_range=libc.sync_file_range)
        self._patches.enter_context(mock.patch.object(transfer_files, "_libc", whole))
        return self

    def __exit__(self, *_: object) -> None:
        """What is open below the root is closed, as the kernel does."""
        self._patches.close()
        for fd in filter(self._is_mine, self._open):
            os.close(fd)

    def _patch(self, name: str, of: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self._patches.enter_context(mock.patch.object(os, name, of(getattr(os, name))))

    def _by_name(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(path: Any, *args: Any, **named: Any) -> Any:
            at = named.get("dir_fd", named.get("src_dir_fd"))
            if not self._is_mine(path, at):
                return call(path, *args, **named)
            return self._step(lambda: call(path, *args, **named))

        return instead

    def _by_descriptor(self, call: Callable[..., Any]) -> Callable[..., Any]:
        syncs = call in (os.fsync, os.fdatasync)

        def instead(fd: int, *args: Any) -> Any:
            if not self._is_mine(fd):
                return call(fd, *args)

            def whole() -> Any:
                result = call(fd, *args)
                if syncs:
                    self._power.synced(fd)
                return result

            return self._step(whole)

        return instead

    def _syncing_all(self, fd: int) -> None:
        """The disk itself is not asked: the file system is one of memory, or other tests' as well."""
        self._step(self._power.synced_all)

    def _writing(self, call: Callable[..., int]) -> Callable[..., int]:
        def instead(fd: int, data: Any, *offset: int) -> int:
            if not self._is_mine(fd):
                return call(fd, data, *offset)
            part = memoryview(data)[: int(len(data) * self._torn)]
            written: int = self._step(
                lambda: call(fd, data, *offset), lambda: call(fd, part, *offset)
            )
            return written

        return instead

    def _allocating(self, call: Callable[..., int]) -> Callable[..., int]:
        def instead(fd: int, mode: int, start: int, size: int) -> int:
            if not self._is_mine(fd):
                return call(fd, mode, start, size)
            part = max(1, int(size * self._torn))
            code: int = self._step(
                lambda: call(fd, mode, start, size), lambda: call(fd, mode, start, part)
            )
            return code

        return instead

    def _opening(self, call: Callable[..., int]) -> Callable[..., int]:
        def instead(path: Any, flags: int, *mode: int, dir_fd: int | None = None) -> int:
            if not self._is_mine(path, dir_fd):
                with self._lock:
                    other = call(path, flags, *mode, dir_fd=dir_fd)
                    # The number may be one that was ours and was closed with the file object around it.
                    self._open.discard(other)
                    return other

            def opened() -> int:
                fd = call(path, flags, *mode, dir_fd=dir_fd)
                self._open.add(fd)
                return fd

            with self._lock:
                fd: int = self._step(opened) if flags & _CREATES else opened()
            return fd

        return instead

    def _duplicating(self, call: Callable[[int], int]) -> Callable[[int], int]:
        def instead(fd: int) -> int:
            with self._lock:
                new = call(fd)
                if fd in self._open:
                    self._open.add(new)
                return new

        return instead

    def _closing(self, call: Callable[[int], None]) -> Callable[[int], None]:
        def instead(fd: int) -> None:
            with self._lock:
                self._open.discard(fd)
                call(fd)

        return instead

    def _step(self, whole: Callable[[], Any], part: Callable[[], Any] | None = None) -> Any:
        # Held meanwhile: nothing that others began before the death may end after it.
        with self._lock:
            if not self.dead and self.done == self._dies_at:
                self.dead = True
                if part is not None and self._torn:
                    part()
            if self.dead:
                raise Crash
            self.done += 1
            return whole()

    def _is_mine(self, where: Any, at: int | None = None) -> bool:
        folder = _place(at) if at is not None else Path.cwd()
        place = _place(where) if isinstance(where, int) else folder / os.fsdecode(where)
        return place.is_relative_to(self._root)


@dataclass(frozen=True)
class Loss:
    """How likely it is for names, pages and ends of files that what was not synced is lost. seed: of the chances."""

    seed: int
    names: float
    pages: float
    ends: float


class Power:
    """What is durable below `root`: all that is there at first, and what was synced later.

    Nothing else is sure to be there after the power was lost, and every name for itself: file systems promise no order.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        # Nobody else gets the number of an inode that is open.
        self._held: list[int] = []
        self._settle()

    def close(self) -> None:
        for fd in self._held:
            os.close(fd)
        self._held.clear()

    def synced(self, fd: int) -> None:
        """This file, or this folder's names."""
        self._keep(Path(f"/proc/self/fd/{fd}"))

    def synced_all(self) -> None:
        """Everything that is there."""
        # By a name that is not below the root: descriptors that are held here are not the process's that dies.
        root = Path("/proc/self/root") / self._root.relative_to("/")
        for path in (root, *root.rglob("*")):
            self._keep(path)

    def lose(self, loss: Loss) -> None:
        """What is not durable goes back to what it was, as far as `loss` says."""
        self._lose_in(self._root, loss, random.Random(loss.seed))
        self._settle()

    def _lose_in(self, folder: Path, loss: Loss, chance: random.Random) -> None:
        was, now = self._names.get(folder.stat().st_ino, {}), _listing(folder)
        for name in sorted(was.keys() | now.keys()):
            path, old, new = folder / name, was.get(name), now.get(name)
            if old != new and chance.random() < loss.names:
                _remove(path)
                if old is not None:
                    self._restore(path, old)
            elif path.is_dir():
                self._lose_in(path, loss, chance)
            elif new is not None:
                self._lose_pages(path, loss, chance)

    def _lose_pages(self, path: Path, loss: Loss, chance: random.Random) -> None:
        was, now = self._contents.get(path.stat().st_ino, b""), path.read_bytes()
        if was == now:
            return
        size = len(now)
        if chance.random() < loss.ends:
            size = chance.randint(*sorted((len(was), len(now))))
        pages = (
            (was if chance.random() < loss.pages else now)[at : at + _PAGE].ljust(_PAGE, b"\0")
            for at in range(0, size, _PAGE)
        )
        path.write_bytes(b"".join(pages)[:size])

    def _restore(self, path: Path, inode: int) -> None:
        if inode in self._names:
            path.mkdir()
            for name, below in self._names[inode].items():
                self._restore(path / name, below)
        else:
            path.write_bytes(self._contents.get(inode, b""))

    def _settle(self) -> None:
        self.close()
        self._contents.clear()
        self._names.clear()
        self.synced_all()

    def _keep(self, path: Path) -> None:
        fd = os.open(path, os.O_PATH)
        self._held.append(fd)
        inode = os.fstat(fd).st_ino
        if path.is_dir():
            self._names[inode] = _listing(path)
        else:
            self._contents[inode] = path.read_bytes()


def _place(fd: int) -> Path:
    """Nowhere, when nothing is open there."""
    try:
        return Path(f"/proc/self/fd/{fd}").readlink()
    except OSError:
        return Path()


def _listing(folder: Path) -> dict[str, int]:
    return {path.name: path.lstat().st_ino for path in folder.iterdir()}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
