"""The manifest of a published tree: a line of JSON about the tree, then an array of its files, a thousand to a line.

The first line alone is parsed when the store opens; the others are only checked (CRC-32) and read when somebody asks, line by line.
"""

import os
import re
import zlib
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO

import orjson

from agent.errors import Retryable
from agent.manifest import Algorithm, Digest, Strength
from agent.storage.disk import Disk, write_durably
from agent.storage.errors import translated
from agent.storage.footprint import Footprint
from agent.storage.tree import StoredFiles, Tree, TreeFile
from agent.storage.walk import open_beneath
from shared.domain.reasons import Reason

_FORMAT = 1
# What is in memory at a time of a list of 200,000 files, which all together would take 100 MB.
_FILES_A_LINE = 1000
# No string holds it, as quotes are escaped there.
_SHARED = re.compile(rb'"shared":\s*\[([][,\s\d]*)\]')
_NUMBER = re.compile(rb"\d+")


class ManifestInvalid(ValueError):
    """Not a manifest that this version can read."""


@dataclass(frozen=True, slots=True)
class Record:
    """A manifest as stored.

    inode: of the tree's folder, which a rename keeps; it tells the old tree from the new one after a crash. born: when that folder
    was made, in ns, since a later one may get the same inode; None where the file system does not say, or an older version wrote this.
    staged: folder below `staging/<key>` that was published. retires: name below `retired/` for what was replaced.
    """

    tree: Tree
    inode: int
    footprint: Footprint
    staged: str = ""
    retires: str = ""
    born: int | None = None


def encode(record: Record) -> Iterator[bytes]:
    """In pieces; the files are walked twice, since all lines of 200,000 would be 40 MB."""
    tree = record.tree
    header = {
        "format": _FORMAT,
        "storageKey": tree.storage_key,
        "uri": tree.uri,
        "revision": tree.revision,
        "selections": tree.selections,
        "publishedAt": tree.published_at.isoformat(),
        "verifiedBy": tree.verified_by,
        "trust": tree.trust,
        "files": len(tree.files),
        "bytes": tree.size,
        "crc32": _crc(_body(tree.files)),
        "inode": record.inode,
        "born": record.born,
        "exclusive": record.footprint.exclusive,
        "staged": record.staged,
        "retires": record.retires,
    }
    yield _json(header)[:-1]
    yield b',"shared":['
    yield from _pieces(record.footprint.pairs)
    yield b"]}\n"
    yield from _body(tree.files)
    yield b"\n"


def write(disk: Disk, at: int, name: str, record: Record) -> None:
    """Durable on return; see `write_durably` for crashes."""
    write_durably(disk, at, name, encode(record))


def read(at: int, name: str) -> Record:
    """The record, its files left on disk. Raises `OSError`, or `ManifestInvalid` when the content is not ours or damaged."""
    with _open(at, name) as file:
        header = file.readline()
        found = _crc(_lines(file))
    try:
        fields, shared = _parsed(header)
        if fields["format"] != _FORMAT:
            raise ManifestInvalid(f"{name}: format {fields['format']!r} is not known")
        crc = fields["crc32"]
        if found != crc:
            raise ManifestInvalid(f"{name}: the list of files is damaged")
        if fields["storageKey"] != name.partition(".")[0]:
            raise ManifestInvalid(f"{name}: it is another model's")
        if any("/" in fields[folder] for folder in ("staged", "retires")):
            raise ManifestInvalid(f"{name}: it names a folder elsewhere")
        tree = Tree(
            storage_key=fields["storageKey"],
            uri=fields["uri"],
            revision=fields["revision"],
            selections=fields["selections"],
            files=StoredFiles(
                lambda sizes=None: _load_files(at, name, crc, sizes),
                count=fields["files"],
                total_size=fields["bytes"],
            ),
            published_at=datetime.fromisoformat(fields["publishedAt"]),
            verified_by=Strength(fields["verifiedBy"]),
            trust=fields["trust"],
        )
        return Record(
            tree=tree,
            inode=fields["inode"],
            footprint=Footprint(fields["exclusive"], shared),
            staged=fields["staged"],
            retires=fields["retires"],
            born=fields.get("born"),
        )
    except ManifestInvalid:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise ManifestInvalid(f"{name}: not a manifest ({type(exc).__name__})") from exc


def _load_files(at: int, name: str, crc: int, sizes: Collection[int] | None) -> Iterator[TreeFile]:
    with translated(f"reading manifest {name}"), _open(at, name) as file:
        begin = len(file.readline())
        if _crc(_lines(file)) != crc:
            raise Retryable(Reason.DISK_ERROR, f"manifest {name} changed while it was read")
        file.seek(begin)
        for line in _lines(file):
            for row in _rows(line):
                if sizes is None or row[1] in sizes:
                    yield file_of(row)


def _open(at: int, name: str) -> BinaryIO:
    return open(open_beneath(at, name, os.O_RDONLY), "rb")


def _parsed(header: bytes) -> tuple[dict[str, Any], "array[int]"]:
    """The fields, and the numbers below `shared`, which as lists in a list would be 30 MB of 100,000 files."""
    found = _SHARED.search(header)
    if found is None:
        raise KeyError("shared")
    shared = array("Q", (int(number[0]) for number in _NUMBER.finditer(header, *found.span(1))))
    if len(shared) % 2:
        raise ValueError("a file of no size")
    return orjson.loads(header[: found.start(1)] + header[found.end(1) :]), shared


def _body(files: Iterable[TreeFile]) -> Iterator[bytes]:
    """One JSON array; a string holds no line's end, so each line can be read by itself."""
    yield b"[\n"
    yield from _pieces(map(row_of, files), b",\n")
    yield b"\n]"


def _pieces(rows: Iterable[Any], separator: bytes = b",") -> Iterator[bytes]:
    """The inside of a JSON array."""
    left, before = iter(rows), b""
    while some := list(islice(left, _FILES_A_LINE)):
        yield before + _json(some)[1:-1]
        before = separator


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """What is left of the file, but for the end of its last line."""
    held = b""
    for line in file:
        yield held
        held = line
    yield held.removesuffix(b"\n")


def _crc(pieces: Iterable[bytes]) -> int:
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


def _rows(line: bytes) -> list[list[Any]]:
    """Versions before wrote the whole array into one line."""
    text = line.strip(b",\n")
    if text in {b"", b"[", b"]"}:
        return []
    rows: list[list[Any]] = orjson.loads(
        text if text.startswith((b"[[", b"[]")) else b"[%b]" % text
    )
    return rows


def row_of(file: TreeFile) -> list[Any]:
    """As JSON has it."""
    digests = [part for digest in file.digests for part in (digest.algorithm, digest.value)]
    return [file.path, file.size, file.mtime_ns, file.validator, file.verified_by, *digests]


def file_of(row: list[Any]) -> TreeFile:
    """Raises ValueError when it is no file's row."""
    path, size, mtime_ns, validator, verified_by, *digests = row
    pairs: Iterable[tuple[str, str]] = zip(digests[::2], digests[1::2], strict=True)
    return TreeFile(
        path=path,
        size=size,
        digests=tuple(Digest(Algorithm(name), value) for name, value in pairs),
        validator=validator,
        verified_by=Strength(verified_by),
        mtime_ns=mtime_ns,
    )


def _json(value: Any) -> bytes:
    return orjson.dumps(value)
