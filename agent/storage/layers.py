"""Several archives over each other in one folder, as container images are made; an upper layer hides what it replaces."""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agent.manifest import MOST_FILES, Layer
from agent.storage import trash
from agent.storage.archive import Unpacking, members
from agent.storage.disk import Disk, open_folder
from agent.storage.errors import translated
from agent.storage.layer_links import HardLinks
from agent.storage.member import Kind, Member, invalid, shown
from agent.storage.tree import TreeFile

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
# Folders that a message names when none of them is the wanted one.
_MOST_SHOWN = 8


def unpack_layers(
    folder: Path,
    packed: Sequence[TreeFile],
    layers: Sequence[Layer],
    into: Path,
    *,
    limit_bytes: int,
    max_entries: int = MOST_FILES,
    cancelled: threading.Event,
    disk: Disk | None = None,
) -> tuple[TreeFile, ...]:
    """The files of all layers, lowest first, and the packed files that are no layer, from below `folder`.

    Raises and leaves what `unpack` does. From the top down, so that nothing is written that another layer hides.
    """
    disk = disk or Disk()
    by_path = {file.path: file for file in packed}
    overlay = _Overlay(HardLinks(max_entries))
    with translated("unpacking"):
        root = open_folder(None, into)
        source = open_folder(None, folder)
        try:
            trash.empty(disk, root, stopped=cancelled.is_set)
            unpacking = Unpacking(disk, root, limit_bytes, max_entries)
            for path in by_path.keys() - {layer.path for layer in layers}:
                unpacking.place(source, by_path[path])
            for layer in reversed(layers):
                file = by_path[layer.path]
                overlay.begin(unpacking)
                for choose in (overlay.visible, overlay.linked):
                    with (folder / layer.path).open("rb") as archive:
                        found = members(archive, layer.kind, limit_bytes, max_entries, cancelled)
                        unpacking.add(choose(found, layer), file.verified_by, file.validator)
            overlay.links.check()
            if not unpacking.files:
                raise overlay.nothing(layers)
            return unpacking.finish()
        finally:
            os.close(source)
            os.close(root)


class _Overlay:
    """What the layers above hide of the one that is read."""

    def __init__(self, links: HardLinks) -> None:
        self.links = links
        self._files: frozenset[str] = frozenset()
        self._folders: frozenset[str] = frozenset()
        self._gone: set[str] = set()
        self._emptied: set[str] = set()
        # Whiteouts count for the layers below only.
        self._going: set[str] = set()
        self._emptying: set[str] = set()
        self._tops: set[str] = set()

    def begin(self, above: Unpacking) -> None:
        self._files, self._folders = above.files.union(self.links.waiting), above.folders
        self.links.begin()
        self._gone |= self._going
        self._emptied |= self._emptying
        self._going.clear()
        self._emptying.clear()

    def visible(self, found: Iterator[Member], layer: Layer) -> Iterator[Member]:
        """The entries that come into the model, under their names there."""
        for name, member in self._within(found, layer):
            path = name.rstrip("/")
            parent, _, last = path.rpartition("/")
            if layer.whiteouts and last.startswith(_WHITEOUT):
                if last == _OPAQUE:
                    self._emptying.add(parent)
                else:
                    self._going.add(f"{parent}/{last[len(_WHITEOUT) :]}".lstrip("/"))
                continue
            hidden = self._hidden(path, member.kind)
            if member.kind is Kind.FILE:
                yield from self.links.file(path, member, hidden=hidden)
            elif member.kind is Kind.HARDLINK:
                yield from self.links.link(path, _target(member, layer), member, hidden=hidden)
            elif not hidden:
                yield replace(member, name=name)

    def linked(self, found: Iterator[Member], layer: Layer) -> Iterator[Member]:
        """Of the same layer, read again: content that is hidden, but not under the names of links that came behind it."""
        if not self.links.waiting:
            return
        for name, member in self._within(found, layer):
            if member.kind is Kind.FILE:
                yield from self.links.file(name.rstrip("/"), member, hidden=True)

    def _within(self, found: Iterator[Member], layer: Layer) -> Iterator[tuple[str, Member]]:
        """The entries below the layer's folder, and their names there."""
        for member in found:
            name = member.name.removeprefix("./").lstrip("/")
            if len(self._tops) < _MOST_SHOWN:
                self._tops.add(name.partition("/")[0])
            inside = name.removeprefix(layer.folder)
            if name.startswith(layer.folder) and inside.rstrip("/") not in ("", "."):
                yield inside, member

    def nothing(self, layers: Sequence[Layer]) -> Exception:
        folders = {layer.folder for layer in layers if layer.folder}
        if not folders:
            return invalid("it holds no file")
        places = ", ".join(sorted(folders))
        tops = ", ".join(shown(top) for top in sorted(self._tops))
        return invalid(f"there is no file below {places} in it, only {tops or 'nothing'}")

    def _hidden(self, path: str, kind: Kind) -> bool:
        if path in self._files or path in self._gone:
            return True
        if kind is not Kind.FOLDER and path in self._folders:
            return True
        above = path
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in self._files or above in self._gone or above in self._emptied:
                return True
        return "" in self._emptied


def _target(member: Member, layer: Layer) -> str:
    """Hard links name their target from the archive's root."""
    target = member.target.removeprefix("./").lstrip("/")
    if not target.startswith(layer.folder):
        raise invalid(f"entry {shown(member.name)} is a link to {shown(target)}, which is outside")
    return target.removeprefix(layer.folder)
