"""Which ranges are on disk: an append-only file that survives `kill -9` and a torn last line.

A line is `<CRC-32C of the rest> <JSON>`. A record is a claim, not a proof: after a crash the page cache may be lost, so
whoever reads it must check the range's CRC against the disk before trusting it.
"""

import contextlib
import hashlib
import json
import os
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from awscrt import checksums

from agent.manifest import Algorithm, Digest, RemoteFile
from agent.transfer.parts import Range

_NAME: Final = "parts.log"
# Rewritten at opening when it holds so many more lines than live ones: files that changed again and again.
_SLACK: Final = 1000
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
_NAMING: Final = frozenset({Algorithm.SHA256, Algorithm.GIT_SHA1})
# A claim in memory, of which a model may have hundreds of thousands: start, end, CRC.
_PACKED: Final = struct.Struct("<QQI")


@dataclass(frozen=True, slots=True)
class Claim:
    """A range that was written, and the CRC-32C of its bytes as they were received."""

    range: Range
    crc32c: int


def file_id(file: RemoteFile) -> str:
    """Names a file's content as far as the source tells; any change of it makes the old ranges worthless.

    With a digest that only this content has, it does not matter where the file is: a new commit moves what it changed.
    """
    named = any(digest.algorithm in _NAMING for digest in file.digests)
    what = [
        file.path,
        file.size,
        *([] if named else [file.validator, file.locator]),
        [[d.algorithm, d.value] for d in file.digests],
    ]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


class Journal:
    """Blocking; `add` and `drop` may be called from several threads. Raises OSError.

    `claims` and `stated` tell what was there at opening, until `forget`.
    """

    def __init__(self, folder: Path) -> None:
        """Reads what is there; a damaged line and all that follow it are cut off."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / _NAME
        self._lock = threading.Lock()
        self._claims: dict[str, bytearray] = {}
        self._stated: dict[str, Digest] = {}
        lines, length = self._read()
        if lines > _SLACK and lines > _SLACK + 2 * sum(len(self.claims(f)) for f in self._claims):
            length = self._rewrite()
        self._fd = self._open()
        try:
            if os.fstat(self._fd).st_size > length:
                os.ftruncate(self._fd, length)
        except OSError:
            os.close(self._fd)
            raise

    def claims(self, file: str) -> tuple[Claim, ...]:
        """Claims of one file in offset order; of two that overlap the younger is kept: it is about bytes that came anew."""
        records = enumerate(_PACKED.iter_unpack(self._claims.get(file, b"")))
        last = {Range(start, end): (number, crc) for number, (start, end, crc) in records}
        kept: list[Claim] = []
        for part in sorted(last):
            number, crc = last[part]
            if kept and kept[-1].range.end > part.start:
                if last[kept[-1].range][0] > number:
                    continue
                kept.pop()
            kept.append(Claim(part, crc))
        return tuple(kept)

    def stated(self, file: str) -> Digest | None:
        """What the source stated about the file when it sent it."""
        return self._stated.get(file)

    @property
    def is_empty(self) -> bool:
        return not self._claims

    def forget(self) -> None:
        """Nobody asks for claims any more; they stay on disk."""
        self._claims, self._stated = {}, {}

    def add(self, file: str, claim: Claim, *, stated: Digest | None = None) -> None:
        """The range's bytes have been written. stated: a digest of the whole file that came with them."""
        self.add_all([(file, claim, stated)])

    def add_all(self, claims: Iterable[tuple[str, Claim, Digest | None]]) -> None:
        """The same for many files, in one write."""
        lines = [_line(_record(file, claim, stated)) for file, claim, stated in claims]
        self._append(b"".join(lines))

    def drop(self, file: str) -> None:
        """Nothing of this file is worth keeping."""
        self._append(_line({"file": file, "drop": True}))

    def close(self) -> None:
        os.close(self._fd)

    def _append(self, lines: bytes) -> None:
        with self._lock:
            end = os.fstat(self._fd).st_size
            try:
                _write(self._fd, lines)
            except OSError:
                # A part of a line would take all that come after it along, at the next opening.
                os.ftruncate(self._fd, end)
                raise

    def _read(self) -> tuple[int, int]:
        lines = good = 0
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as log:
            for line in log:
                record = _parse(line)
                if record is None:
                    break
                self._replay(record)
                lines += 1
                good += len(line)
        return lines, good

    def _replay(self, record: dict[str, Any]) -> None:
        file = record["file"]
        if record.get("drop"):
            self._claims.pop(file, None)
            self._stated.pop(file, None)
            return
        if "stated" in record:
            algorithm, value = record["stated"]
            self._stated[file] = Digest(Algorithm(algorithm), value)
        self._claims.setdefault(file, bytearray()).extend(
            _PACKED.pack(*record["part"], record["crc"])
        )

    def _rewrite(self) -> int:
        """Only what still counts; returns its length."""
        draft = self._path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            for file in self._claims:
                stated = self._stated.get(file)
                _write(fd, b"".join(_line(_record(file, c, stated)) for c in self.claims(file)))
            os.fsync(fd)
            length = os.fstat(fd).st_size
        finally:
            os.close(fd)
        draft.rename(self._path)
        return length

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._path, flags, 0o644)


def _write(fd: int, lines: bytes) -> None:
    """All of it: a full disk may take a part of what it is given. A crash leaves whole lines and at most one torn one."""
    while lines:
        lines = lines[os.write(fd, lines) :]


def _record(file: str, claim: Claim, stated: Digest | None) -> dict[str, Any]:
    record: dict[str, Any] = {
        "file": file,
        "part": [claim.range.start, claim.range.end],
        "crc": claim.crc32c,
    }
    if stated is not None:
        record["stated"] = [stated.algorithm, stated.value]
    return record


def _line(record: dict[str, Any]) -> bytes:
    text = _ENCODER.encode(record).encode()
    return b"%08x %s\n" % (checksums.crc32c(text), text)


def _parse(line: bytes) -> dict[str, Any] | None:
    if len(line) < 10 or not line.endswith(b"\n"):
        return None
    text = line[9:-1]
    if line[:9] != b"%08x " % checksums.crc32c(text):
        return None
    record: dict[str, Any] = json.loads(text)
    return record
