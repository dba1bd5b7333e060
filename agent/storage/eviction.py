"""Taking a published tree away, and what was replaced once its readers had their time.

  1. `manifests/<key>.json` becomes `manifests/<key>.gone`, durable: from here on the tree is to go.
  2. `models/<key>` is renamed into the trash, if it is still the tree of that manifest.
  3. `.gone` is removed, durable. The trash is emptied.

Crash before 1: nothing happened. Before 3: the next start finds `.gone` and does 2 and 3. After 3: the trash is emptied by
the next sweep.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent.storage import manifests, trash
from agent.storage.disk import Disk
from agent.storage.inspection import intact
from agent.storage.layout import Layout
from agent.storage.manifests import ManifestInvalid, Record
from agent.storage.walk import birth, lstat, names


def evict(layout: Layout, disk: Disk, key: str) -> None:
    """The tree and its manifest are gone, its bytes in the trash. Raises `OSError` with both in place."""
    try:
        disk.rename(layout.manifests, f"{key}.json", layout.manifests, f"{key}.gone")
    except FileNotFoundError:
        return
    try:
        disk.sync(layout.manifests)
        settle(layout, disk, key)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            disk.rename(layout.manifests, f"{key}.gone", layout.manifests, f"{key}.json")
        raise


def settle(layout: Layout, disk: Disk, key: str) -> None:
    """Complete the eviction that `manifests/<key>.gone` tells of; nothing to do without it."""
    try:
        record = manifests.read(layout.manifests, f"{key}.gone")
    except FileNotFoundError:
        return
    except ManifestInvalid:
        record = None
    if record is not None and is_of(layout, record):
        trash.discard(disk, layout.models, key, layout.trash)
        disk.sync(layout.models)
    disk.unlink(layout.manifests, f"{key}.gone")
    disk.sync(layout.manifests)


def is_of(layout: Layout, record: Record) -> bool:
    """Whether what is at `models/<key>` is the manifest's tree: the same folder, or one with at least one of its files.

    The second is for a root that was copied to another disk; a folder that somebody put there instead has neither, even if it got the
    inode of the one that was deleted.
    """
    key = record.tree.storage_key
    found = lstat(layout.models, key)
    if found is None:
        return False
    same = found.st_ino == record.inode and record.born in (None, birth(layout.models, key))
    return same or intact(layout.models, record.tree)


@dataclass(frozen=True, slots=True)
class Retired:
    """A replaced tree that running pods may still read. name: below `retired/`."""

    name: str
    key: str
    since: datetime


def retired(layout: Layout) -> Iterator[Retired]:
    """Oldest first."""
    found = []
    for name in names(layout.retired):
        match name.split("."):
            case [key, seconds, _] if key and seconds.isdigit():
                found.append((int(seconds), name, key))
    for moment, name, key in sorted(found):
        yield Retired(name, key, datetime.fromtimestamp(moment, tz=UTC))


def drop_retired(layout: Layout, disk: Disk, *, now: datetime, grace: timedelta) -> None:
    """Move trees whose time is over into the trash; a tree's manifest goes after the tree."""
    for one in retired(layout):
        if now - one.since >= grace and not _in_publication(layout, one.key):
            trash.discard(disk, layout.retired, one.name, layout.trash)
    for name in names(layout.retired):
        tree = name.removesuffix(".json")
        if tree == name or lstat(layout.retired, tree) is not None:
            continue
        if not _in_publication(layout, name.partition(".")[0]):
            disk.unlink(layout.retired, name)
    disk.sync(layout.retired)


def _in_publication(layout: Layout, key: str) -> bool:
    """A publication that is not settled yet may still need what it retires."""
    return lstat(layout.manifests, f"{key}.next") is not None
