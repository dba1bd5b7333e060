"""What was fetched and then became another name of another model's file: it stays when the publication fails.

`staging/<key>/shared` notes what was verified of each such file, and which file of the disk it is. The next attempt keeps it while
a published model has that very file and nothing says that it is damaged.
"""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import orjson

from agent.manifest import RemoteFile
from agent.storage.catalogue import Catalogue
from agent.storage.disk import Disk, opened_folder, write_durably
from agent.storage.givers import good_files, may_be_equal, status
from agent.storage.inspection import fingerprint
from agent.storage.layout import Layout
from agent.storage.manifests import file_of, row_of
from agent.storage.reuse import confirmed, taken_over
from agent.storage.tree import TreeFile
from agent.storage.walk import open_beneath

_NOTE = "shared"


def note(layout: Layout, disk: Disk, key: str, files: Iterable[TreeFile], into: int) -> None:
    """These staged files, and no others, are one file with another model's now. Durable on return."""
    with opened_folder(key, at=layout.staging) as stage:
        write_durably(disk, stage, _NOTE, _lines(files, into))


def kept(
    layout: Layout, known: Catalogue, key: str, wanted: Sequence[RemoteFile], into: int
) -> Iterator[TreeFile]:
    """The noted files that are as they were, are what is wanted, and are a good file of another model still."""
    noted = {file.path: (inode, file) for inode, file in _noted(layout, key)}
    left: defaultdict[int, list[TreeFile]] = defaultdict(list)
    for remote in wanted if noted else ():
        inode, file = noted.get(remote.path, (0, None))
        if file is None or not confirmed(file, remote):
            continue
        found = status(into, file.path)
        if found and (found.st_ino, fingerprint(found)) == (inode, (file.size, file.mtime_ns)):
            left[inode].append(taken_over(file, remote))

    def sizes() -> set[int]:
        return {file.size for names in left.values() for file in names}

    for _, root, file in good_files(layout, known, known.others(key), sizes):
        found = status(root, file.path)
        if (
            found is not None
            and found.st_ino in left
            and fingerprint(found) == (file.size, file.mtime_ns)
            and may_be_equal(file, left[found.st_ino][0])
        ):
            yield from left.pop(found.st_ino)


def _lines(files: Iterable[TreeFile], into: int) -> Iterator[bytes]:
    for file in files:
        found = status(into, file.path)
        if found is not None:
            row = row_of(replace(file, mtime_ns=found.st_mtime_ns))
            yield orjson.dumps([found.st_ino, *row]) + b"\n"


def _noted(layout: Layout, key: str) -> Iterator[tuple[int, TreeFile]]:
    """From a damaged line on, nothing."""
    try:
        fd = open_beneath(layout.staging, f"{key}/{_NOTE}", os.O_RDONLY)
    except FileNotFoundError:
        return
    with open(fd, "rb") as lines, contextlib.suppress(ValueError, TypeError):
        for line in lines:
            inode, *row = orjson.loads(line)
            yield inode, file_of(row)
