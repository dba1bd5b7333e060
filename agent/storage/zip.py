"""Reading a zip file by its central directory, one record at a time.

Python's zipfile builds an object for every record first; an evil directory of some hundred megabytes costs gigabytes there.
"""

import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from agent.storage.errors import Cancelled
from agent.storage.member import CHUNK, Kind, Member, invalid, shown

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_RECORD = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_COMMENT_LIMIT = 0xFFFF
_TARGET_LIMIT = 4096
# Far beyond any file; zip64 states places with 64 bits, more than a file offset has.
_FARTHEST = 1 << 62
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UTF8 = 0x800
_STORED, _DEFLATED = 0, 8
_UNIX = 3
_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz", 99: "AES encryption"}


@dataclass(frozen=True, slots=True)
class _Record:
    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int


def members(file: BinaryIO, *, cancelled: Callable[[], bool]) -> Iterator[Member]:
    """Entries in the directory's order."""
    start, length, shift = _directory(file)
    position, end = start, start + length
    while position < end:
        if cancelled():
            raise Cancelled
        record, used = _record(file, position)
        position += used
        yield _member(file, record, shift, cancelled)


def _member(file: BinaryIO, record: _Record, shift: int, cancelled: Callable[[], bool]) -> Member:
    name = record.name
    if record.flags & _ENCRYPTED:
        raise invalid(f"entry {shown(name)} is encrypted")
    if record.method not in (_STORED, _DEFLATED):
        method = _METHODS.get(record.method, str(record.method))
        raise invalid(f"entry {shown(name)} is packed with {method}, which is not supported")
    content = _content(file, record, shift, cancelled)
    kind = stat.S_IFMT(record.mode)
    if name.endswith("/") or kind == stat.S_IFDIR:
        return Member(name, Kind.FOLDER, 0, "", False, iter(()))
    if kind == stat.S_IFLNK:
        if record.size > _TARGET_LIMIT:
            raise invalid(f"entry {shown(name)} is a link with {record.size} bytes of target")
        target = b"".join(content).decode("utf-8", "surrogateescape")
        return Member(name, Kind.SYMLINK, 0, target, False, iter(()))
    if kind not in (0, stat.S_IFREG):
        raise invalid(f"entry {shown(name)} is neither a file nor a folder")
    return Member(name, Kind.FILE, record.size, "", bool(record.mode & 0o111), content)


def _content(
    file: BinaryIO, record: _Record, shift: int, cancelled: Callable[[], bool]
) -> Iterator[bytes]:
    """The bytes, checked against size and CRC at the end."""
    shown_name = shown(record.name)
    position = _data_start(file, record, shift)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if record.method == _DEFLATED else None
    left, size, crc = record.packed, 0, 0
    pending = b""
    while left or pending or (inflate and not inflate.eof):
        if cancelled():
            raise Cancelled
        if not pending and left:
            file.seek(position)
            pending = file.read(min(left, CHUNK))
            position += len(pending)
            left -= len(pending)
        fed = bool(pending)
        if inflate is None:
            data, pending = pending, b""
        else:
            try:
                data = inflate.decompress(pending, CHUNK)
            except zlib.error as exc:
                raise invalid(f"entry {shown_name} is damaged ({exc})") from exc
            pending = inflate.unconsumed_tail
            if inflate.eof and (left or inflate.unused_data):
                raise invalid(f"entry {shown_name} is damaged (data behind its end)")
        if not fed and not data and (inflate is None or not inflate.eof):
            raise invalid(f"it is cut off inside entry {shown_name}")
        size += len(data)
        if size > record.size:
            raise invalid(f"entry {shown_name} has more bytes than the directory says")
        crc = zlib.crc32(data, crc)
        if data:
            yield data
    if size != record.size or crc != record.crc:
        raise invalid(f"entry {shown_name} is damaged (its size or CRC is not the stated one)")


def _data_start(file: BinaryIO, record: _Record, shift: int) -> int:
    offset = record.offset + shift
    local = _unpack(_LOCAL, _at(file, offset, _LOCAL.size))
    name_length, extra_length = local[-2:]
    if local[0] != b"PK\3\4" or file.read(name_length) != record.raw_name:
        raise invalid(f"entry {shown(record.name)} is not where the directory says")
    return offset + _LOCAL.size + int(name_length) + int(extra_length)


def _record(file: BinaryIO, position: int) -> tuple[_Record, int]:
    (
        magic,
        made,
        _,
        flags,
        method,
        _,
        _,
        crc,
        packed,
        size,
        names,
        extras,
        comments,
        _,
        _,
        attrs,
        offset,
    ) = _unpack(_RECORD, _at(file, position, _RECORD.size))
    raw_name, extra = file.read(names), file.read(extras)
    if magic != b"PK\1\2" or len(raw_name) + len(extra) < names + extras:
        raise invalid("its directory is damaged")
    size, packed, offset = _wide(extra, size, packed, offset)
    name = (
        raw_name.decode("utf-8", "surrogateescape") if flags & _UTF8 else raw_name.decode("cp437")
    )
    mode = attrs >> 16 if made >> 8 == _UNIX else 0
    record = _Record(name, raw_name, flags, method, crc, packed, size, offset, mode)
    return record, _RECORD.size + names + extras + comments


def _wide(extra: bytes, *values: int) -> tuple[int, int, int]:
    """Size, packed size and offset, where 32 bits are not enough for them, from the zip64 field."""
    wide = b""
    while len(extra) >= 4:
        tag, length = struct.unpack_from("<2H", extra)
        if tag == 1:
            wide = extra[4 : 4 + length]
        extra = extra[4 + length :]
    found = []
    for value in values:
        if value == _FULL32 and len(wide) >= 8:
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        found.append(value)
    return found[0], found[1], found[2]


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Where the directory starts, its length, and what to add to every offset (bytes before the archive proper)."""
    total = file.seek(0, 2)
    tail_at = max(0, total - _END.size - _COMMENT_LIMIT)
    tail = _at(file, tail_at, total - tail_at)
    found = tail.rfind(b"PK\5\6")
    if found < 0 or len(tail) - found < _END.size:
        raise invalid("it is not a zip file, or it is cut off")
    end_at = tail_at + found
    _, disk, start_disk, here, entries, length, start, _ = _END.unpack_from(tail, found)
    if _FULL32 in (length, start) or _FULL16 in (here, entries):
        locator = (
            _at(file, end_at - _LOCATOR.size, _LOCATOR.size) if end_at >= _LOCATOR.size else b""
        )
        if locator[:4] == b"PK\6\7":
            end_at = end_at - _LOCATOR.size - _END64.size
            if end_at < 0:
                raise invalid("its zip64 directory is damaged")
            fields = _unpack(_END64, _at(file, end_at, _END64.size))
            if fields[0] != b"PK\6\6":
                raise invalid("its zip64 directory is damaged")
            disk, start_disk, length, start = fields[4], fields[5], fields[8], fields[9]
    if disk or start_disk:
        raise invalid("it is one of several volumes")
    shift = end_at - length - start
    if shift < 0:
        raise invalid("its directory is damaged, or it is cut off")
    return start + shift, length, shift


def _at(file: BinaryIO, position: int, size: int) -> bytes:
    if not 0 <= position < _FARTHEST:
        raise invalid("its directory names a place that is in no file")
    file.seek(position)
    return file.read(size)


def _unpack(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    if len(data) < layout.size:
        raise invalid("it is cut off")
    return layout.unpack(data)
