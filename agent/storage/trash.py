"""Deleting: a tree is first renamed into the trash, in one step, and then taken apart there.

Nothing is followed and nothing recurses: a folder's folders are renamed up into the trash and wait for their turn. A crash at any
point leaves a smaller trash, which the next sweep goes on with.
"""

import os
import secrets
from collections.abc import Callable, Iterator

from agent.storage.disk import Disk, open_folder
from agent.storage.walk import Entry, lstat, names

# Names deleted between two looks at the stop flag: some milliseconds of work.
_SLICE = 256


def discard(disk: Disk, at: int, name: str, trash: int) -> None:
    """Gone from where it was; durable once `at` is synced."""
    disk.rename(at, name, trash, f"{name}.{secrets.token_hex(6)}")


def empty(disk: Disk, trash: int, *, stopped: Callable[[], bool]) -> None:
    """Delete everything. What cannot be deleted does not keep the rest: its error is raised at the end."""
    pending = names(trash)
    failed: OSError | None = None
    done = 0
    while pending:
        try:
            for step in _take_apart(disk, trash, pending.pop()):
                match step:
                    case OSError():
                        failed = failed or step
                    case str():
                        pending.append(step)
                done += 1
                if done % _SLICE == 0 and stopped():
                    return
        except OSError as exc:
            failed = failed or exc
    disk.sync(trash)
    if failed is not None:
        raise failed


def _take_apart(disk: Disk, trash: int, name: str) -> Iterator[str | OSError | None]:
    """For each name in it: the new name of a folder, what hindered, or None when it is gone."""
    found = lstat(trash, name)
    if found is None:
        return
    if not Entry(name, found).is_folder:
        disk.unlink(trash, name)
        return
    fd = open_folder(trash, name)
    emptied = True
    try:
        for child in names(fd):
            try:
                yield _take_out(disk, trash, fd, child)
            except OSError as exc:
                emptied = False
                yield exc
    finally:
        os.close(fd)
    if emptied:
        disk.rmdir(trash, name)


def _take_out(disk: Disk, trash: int, fd: int, child: str) -> str | None:
    found = lstat(fd, child)
    if found is None:
        return None
    if not Entry(child, found).is_folder:
        disk.unlink(fd, child)
        return None
    moved = secrets.token_hex(8)
    disk.rename(fd, child, trash, moved)
    return moved
