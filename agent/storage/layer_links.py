"""Hard links in layers: a link means the content that its own layer, or else the next lower one, has under the target's name.

Layers are read from the top, so a link may wait for content that is hidden under its own name, or that comes with a lower layer.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

from agent.storage.member import Kind, Member, invalid, shown, too_large


class HardLinks:
    """Those of one unpacking. Names and targets are paths in the model."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[str, list[str]] = {}
        # Of the layer that is read: where content stands, and links by what they lead to.
        self._placed: dict[str, str] = {}
        self._roots: dict[str, str] = {}

    @property
    def waiting(self) -> Collection[str]:
        """Names that will be there, hidden from lower layers as files are."""
        return {name for names in self._waiting.values() for name in names}

    def begin(self) -> None:
        """The next lower layer."""
        self._placed.clear()
        self._roots.clear()

    def file(self, path: str, member: Member, *, hidden: bool) -> Iterator[Member]:
        """The entries that a file makes: its own, unless it is hidden, and those of links that waited for it."""
        names = self._waiting.pop(path, [])
        if hidden and not names:
            return
        first = names.pop(0) if hidden else path
        self._placed[path] = first
        yield replace(member, name=first)
        for name in names:
            yield _link(member, name, first)

    def link(self, path: str, target: str, member: Member, *, hidden: bool) -> Iterator[Member]:
        """The entries that a link makes now; one whose content is not there yet waits."""
        root = self._roots.get(target, target)
        self._roots[path] = root
        if len(self._roots) > self._most:
            raise too_large(f"a layer holds more than {self._most} links")
        names = self._waiting.pop(path, [])
        if not hidden:
            names.append(path)
        if not names:
            return
        if root in self._placed:
            for name in names:
                yield _link(member, name, self._placed[root])
        else:
            self._waiting.setdefault(root, []).extend(names)

    def check(self) -> None:
        """After the lowest layer."""
        for target, names in self._waiting.items():
            raise invalid(
                f"entry {shown(names[0])} is a link to {shown(target)}, which is no earlier file"
            )


def _link(member: Member, name: str, target: str) -> Member:
    return replace(member, name=name, kind=Kind.HARDLINK, target=target, size=0, content=iter(()))
