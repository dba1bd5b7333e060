"""What the store does when it opens: finish or undo what a crash interrupted, then read what is published."""

import contextlib

from agent.storage import eviction, manifests, publication, trash
from agent.storage.disk import Disk
from agent.storage.layout import Layout
from agent.storage.manifests import ManifestInvalid, Record
from agent.storage.walk import lstat, names
from shared.domain.storage_key import is_storage_key


def recover(layout: Layout, disk: Disk, *, staged: str) -> dict[str, Record]:
    """What is published, by storage key. Raises `OSError`.

    Drafts are removed; a staging folder without the folder `staged` has lost what its journal is about, and goes to
    the trash. A manifest that cannot be read is left alone: its tree counts as foreign, to be compared and adopted.
    """
    for name in names(layout.private):
        if name.startswith((".VERSION.", ".scrub.")):
            disk.unlink(layout.private, name)
    for name in names(layout.manifests):
        key, _, kind = name.partition(".")
        if not key:
            disk.unlink(layout.manifests, name)
        elif kind == "next":
            publication.settle(layout, disk, key)
        elif kind == "gone":
            eviction.settle(layout, disk, key)
    for key in names(layout.staging):
        if lstat(layout.staging, f"{key}/{staged}") is None:
            trash.discard(disk, layout.staging, key, layout.trash)
    records = {}
    for name in names(layout.manifests):
        key, _, kind = name.partition(".")
        if kind == "json" and is_storage_key(key):
            with contextlib.suppress(ManifestInvalid):
                records[key] = manifests.read(layout.manifests, name)
    return records
