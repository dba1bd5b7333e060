"""What the store occupies, without walking every published tree for each answer."""

import os
import threading
import time
from collections.abc import Mapping
from itertools import chain

from agent.storage.footprint import Footprint, measure, occupied
from agent.storage.inspection import open_tree
from agent.storage.layout import TRASH, Layout
from agent.storage.tree import Usage
from agent.storage.walk import Entry, names, walk

# What changes by itself (staging, trash) is measured again only after this many times as long as measuring it took.
_REST = 20


class Meter:
    """Footprints of published and retired trees are measured once; `forget` says that one changed."""

    def __init__(self, layout: Layout, trees: Mapping[str, Footprint]) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._trees = dict(trees)
        # Known from manifests alone; files may have got other names since they were written.
        self._unseen = set(trees)
        self._retired: dict[str, Footprint] = {}
        self._moving = (Footprint(), Footprint())
        self._rest_until = 0.0

    def remember(self, key: str, footprint: Footprint) -> None:
        """A published tree's footprint is known."""
        with self._lock:
            self._trees[key] = footprint
            self._unseen.discard(key)
            self._rest_until = 0.0

    def forget(self, key: str) -> None:
        """The tree is gone, or its files got other names: measured again when somebody asks."""
        with self._lock:
            self._trees.pop(key, None)
            self._unseen.discard(key)
            self._rest_until = 0.0

    def changed(self) -> None:
        """Something was deleted: measured again at the next question."""
        with self._lock:
            self._rest_until = 0.0

    def usage(self, published: Mapping[str, object]) -> Usage:
        """Raises `OSError`. Manifests and journals of the store itself, some kilobytes, are not counted."""
        with self._lock:
            retired = {name for name in names(self._layout.retired) if _is_tree(name)}
            for name in self._retired.keys() - retired:
                del self._retired[name]
            for name in retired - self._retired.keys():
                self._retired[name] = _measured(self._layout.retired, name)
            staging, trash = self._measure_moving()
            self._measure_trees(published, [staging, trash, *self._retired.values()])
            used, reclaimable = occupied(
                [*self._trees.values(), staging], [*self._retired.values(), trash]
            )
        disk = os.fstatvfs(self._layout.models)
        return Usage(
            capacity=disk.f_blocks * disk.f_frsize,
            available=disk.f_bavail * disk.f_frsize,
            used=used,
            reclaimable=reclaimable,
            inodes_available=disk.f_favail if disk.f_files else None,
        )

    def _measure_trees(self, published: Mapping[str, object], around: list[Footprint]) -> None:
        """Where files have several names, a manifest from before they got them counts such a file as its tree's own."""
        for key in self._trees.keys() - published.keys():
            del self._trees[key]
        if any(one.shared for one in (*around, *self._trees.values())):
            for key in self._unseen & self._trees.keys():
                del self._trees[key]
            self._unseen.clear()
        for key in published.keys() - self._trees.keys():
            self._trees[key] = _measured(self._layout.models, key)

    def _measure_moving(self) -> tuple[Footprint, Footprint]:
        began = time.monotonic()
        if began >= self._rest_until:
            self._moving = (
                measure(walk(self._layout.staging, readable=True)),
                measure(walk(self._layout.trash, readable=True)),
            )
            ended = time.monotonic()
            self._rest_until = ended + _REST * (ended - began)
        return self._moving


def _is_tree(name: str) -> bool:
    return name != TRASH and not name.endswith(".json")


def _measured(at: int, name: str) -> Footprint:
    fd = open_tree(at, name)
    if fd is None:
        return Footprint()
    try:
        return measure(chain([Entry("", os.fstat(fd))], walk(fd, readable=True)))
    finally:
        os.close(fd)
