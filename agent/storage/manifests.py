"""The manifest of a published tree: one line of JSON about the tree, one about its files.

The first line alone is parsed when the store opens; the second is only checked (CRC-32) and read when somebody asks.
"""

import os
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

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


def encode(record: Record) -> bytes:
    """Both lines."""
    tree = record.tree
    body = _json([_row(file) for file in tree.files])
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
        "crc32": zlib.crc32(body),
        "inode": record.inode,
        "born": record.born,
        "exclusive": record.footprint.exclusive,
        "shared": list(record.footprint.shared.items()),
        "staged": record.staged,
        "retires": record.retires,
    }
    return _json(header) + b"\n" + body + b"\n"


def write(disk: Disk, at: int, name: str, record: Record) -> None:
    """Durable on return; see `write_durably` for crashes."""
    write_durably(disk, at, name, encode(record))


def read(at: int, name: str) -> Record:
    """The record, its files left on disk. Raises `OSError`, or `ManifestInvalid` when the content is not ours or damaged."""
    header, body = _split(_read_bytes(at, name))
    try:
        fields = orjson.loads(header)
        if fields["format"] != _FORMAT:
            raise ManifestInvalid(f"{name}: format {fields['format']!r} is not known")
        crc = fields["crc32"]
        if zlib.crc32(body) != crc:
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
            footprint=Footprint(fields["exclusive"], dict(fields["shared"])),
            staged=fields["staged"],
            retires=fields["retires"],
            born=fields.get("born"),
        )
    except ManifestInvalid:
        raise
    except (KeyError, TypeError, ValueError) as exc:
        raise ManifestInvalid(f"{name}: not a manifest ({type(exc).__name__})") from exc


def _load_files(
    at: int, name: str, crc: int, sizes: Collection[int] | None
) -> tuple[TreeFile, ...]:
    with translated(f"reading manifest {name}"):
        _, body = _split(_read_bytes(at, name))
    if zlib.crc32(body) != crc:
        raise Retryable(Reason.DISK_ERROR, f"manifest {name} changed while it was read")
    rows = orjson.loads(body)
    return tuple(_file(row) for row in rows if sizes is None or row[1] in sizes)


def _read_bytes(at: int, name: str) -> bytes:
    with open(open_beneath(at, name, os.O_RDONLY), "rb") as file:
        return file.read()


def _split(content: bytes) -> tuple[bytes, bytes]:
    header, _, rest = content.partition(b"\n")
    return header, rest.removesuffix(b"\n")


def _row(file: TreeFile) -> list[Any]:
    digests = [part for digest in file.digests for part in (digest.algorithm, digest.value)]
    return [file.path, file.size, file.mtime_ns, file.validator, file.verified_by, *digests]


def _file(row: list[Any]) -> TreeFile:
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
