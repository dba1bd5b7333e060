"""A commit's files in a pack: names, contents, symlinks made into what they lead to. Pure."""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from agent.errors import Stalled
from agent.manifest import safe_path
from agent.sources.git_pack import GitObject, damaged
from agent.sources.listing import Tally
from shared.domain.reasons import Reason

_FOLDER, _LINK, _SUBMODULE = "40000", "120000", "160000"
# Deeper than any path may be long.
_MOST_FOLDERS = 1024
_MOST_LINKS = 40
_LONGEST_LINK = 4096
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"(?:[^\n]*\n)*?oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n"
)
# What the specification allows a pointer to have.
_POINTER_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Pointer:
    """What git-lfs keeps elsewhere."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Blob:
    """name: SHA-1 that git gives the content."""

    name: str
    data: bytes

    @property
    def pointer(self) -> Pointer | None:
        if len(self.data) > _POINTER_BYTES:
            return None
        match = _POINTER.fullmatch(self.data)
        return Pointer(match[1].decode(), int(match[2])) if match else None


def files(
    objects: Mapping[str, GitObject],
    commit: str,
    *,
    tally: Tally,
    check: Callable[[], None] = lambda: None,
) -> Mapping[str, Blob]:
    """By path. Submodules are left out, as `git clone` leaves them empty. Raises Stalled for damage and unsafe names.

    tally: folders may name each other many times, so that few objects make any number of paths. check: as for a pack.
    """
    links: dict[str, str] = {}
    found: dict[str, Blob] = {}
    for path, mode, name in _walk(objects, _tree_of(objects, commit), tally):
        check()
        data = _get(objects, name, b"blob")
        if mode == _LINK:
            if len(data) > _LONGEST_LINK:
                raise Stalled(Reason.UNSAFE_PATH, f"entry {path!r} is a link that leads nowhere")
            links[path] = data.decode("utf-8", "surrogateescape")
        else:
            found[path] = Blob(name, data)
    return found | {path: _followed(path, links, found) for path in links}


def peel(objects: Mapping[str, GitObject], name: str) -> str:
    """The commit that a tag names, or the commit itself."""
    for _ in range(_MOST_LINKS):
        one = objects.get(name)
        if one is None or one.kind != b"tag":
            return name
        name = _field(one, b"object")
    raise damaged("tags of tags of tags")


def _tree_of(objects: Mapping[str, GitObject], commit: str) -> str:
    one = objects.get(commit)
    if one is None or one.kind != b"commit":
        raise damaged("it does not hold the commit")
    return _field(one, b"tree")


def _walk(
    objects: Mapping[str, GitObject], tree: str, tally: Tally
) -> Iterator[tuple[str, str, str]]:
    """Path, mode and name of every file and link."""
    folders = [("", tree)]
    while folders:
        folder, name = folders.pop()
        if folder.count("/") > _MOST_FOLDERS:
            raise damaged("folders are too deep")
        data = _get(objects, name, b"tree")
        at = 0
        while at < len(data):
            end = data.find(b"\0", at)
            mode, blank, label = data[at:end].partition(b" ")
            if end < 0 or not blank or end + 21 > len(data):
                raise damaged("a folder cannot be read")
            path = safe_path(folder + label.decode("utf-8", "surrogateescape"))
            tally.add(path)
            child, kind = data[end + 1 : end + 21].hex(), mode.decode("latin-1").lstrip("0")
            at = end + 21
            if kind == _FOLDER:
                folders.append((f"{path}/", child))
            elif kind != _SUBMODULE:
                yield path, kind, child


def _followed(path: str, links: Mapping[str, str], found: Mapping[str, Blob]) -> Blob:
    target = path
    for _ in range(_MOST_LINKS):
        if target not in links:
            break
        target = posixpath.normpath(posixpath.join(posixpath.dirname(target), links[target]))
    if target not in found:
        raise Stalled(
            Reason.UNSAFE_PATH,
            f"entry {path!r} is a link to something that is no file of the repository",
        )
    return found[target]


def _get(objects: Mapping[str, GitObject], name: str, kind: bytes) -> bytes:
    one = objects.get(name)
    if one is None or one.kind != kind:
        raise damaged(f"it lacks the {kind.decode()} {name}")
    return one.data


def _field(one: GitObject, name: bytes) -> str:
    first = one.data.partition(b"\n")[0]
    label, _, value = first.partition(b" ")
    if label != name:
        raise damaged(f"a {one.kind.decode()} names no {name.decode()}")
    return value.decode("latin-1")
