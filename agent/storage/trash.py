"""Deleting: a tree is first renamed into the trash, in one step, and then taken apart there.

Nothing is followed and nothing recurses: a folder's folders are renamed up into the trash and wait for their turn. A crash at any
point leaves a smaller trash, which the next sweep goes on with.
"""

import os
import secrets
from collections.abc import Callable

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
                pending.extend(step)
                done += 1
                if done % _SLICE == 0 and stopped():
                    return
        except OSError as exc:
            failed = failed or exc
    disk.sync(trash)
    if failed is not None:
        raise failed


def _take_apart(disk: Disk, trash: int, name: str) -> list[list[str]]:
    found = lstat(trash, name)
    if found is None:
        return []
    if not Entry(name, found).is_folder:
        disk.unlink(trash, name)
        return [[]]
    steps: list[list[str]] = []
    fd = open_folder(trash, name)
    try:
        for child in names(fd):
            stat = lstat(fd, child)
            if stat is not None and Entry(child, stat).is_folder:
                moved = secrets.token_hex(8)
                disk.rename(fd, child, trash, moved)
                steps.append([moved])
            else:
                disk.unlink(fd, child)
                steps.append([])
    finally:
        os.close(fd)
    disk.rmdir(trash, name)
    return steps
