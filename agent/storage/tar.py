"""Reading a tar stream: ustar, GNU and pax, as far as a model may need it.

Python's tarfile reads extended headers of any claimed size into memory and follows chains of them by recursion; here both are bounded.
An archive that ends between two entries without the two empty blocks is taken as whole, as GNU tar does: some writers leave them out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.storage.member import CHUNK, Kind, Member, invalid, shown
from agent.storage.streams import Bounded

_BLOCK = 512
# Names of 3 KiB and a few attributes; real extended headers are far below.
_EXTENDED_LIMIT = 1 << 20
_EXTENDED_CHAIN = 16
_SIZE_DIGITS = 20  # of 2⁶⁴
_EXTENDED = frozenset({b"x", b"X", b"L", b"K", b"g"})
_FILE = frozenset({b"0", b"\0", b"7"})
_REFUSED = {
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"S": "a sparse file, which is not supported",
    b"M": "the rest of a file on another volume",
    b"D": "a directory dump of an incremental backup",
}


@dataclass(slots=True)
class _Extended:
    """What came before a header and overrides it."""

    name: str | None = None
    target: str | None = None
    size: int | None = None
    headers: int = 0
    unsupported: str | None = None


def members(stream: Bounded) -> Iterator[Member]:
    """Entries in order. What is left of an entry's content is skipped. Reads to the end, so that checksums are verified."""
    extended = _Extended()
    while True:
        header = stream.exactly(_BLOCK)
        if len(header) < _BLOCK:
            if header or extended.headers:
                raise invalid("it is cut off inside a header")
            return
        if header.count(0) == _BLOCK:
            break
        _check_sum(header)
        kind = header[156:157]
        size = _number(header[124:136])
        if kind in _EXTENDED:
            _extend(extended, kind, _extended_content(stream, size))
            continue
        yield from _member(stream, header, kind, size, extended)
        extended = _Extended()
    while stream.read(CHUNK):
        pass


def _member(
    stream: Bounded, header: bytes, kind: bytes, size: int, extended: _Extended
) -> Iterator[Member]:
    name = extended.name if extended.name is not None else _header_name(header)
    if extended.size is not None:
        size = extended.size
    if why := _REFUSED.get(kind) or extended.unsupported:
        raise invalid(f"entry {shown(name)} is {why}")
    target = extended.target if extended.target is not None else _text(header[157:257])
    executable = bool(_number(header[100:108]) & 0o111)
    if kind in _FILE and not (kind == b"\0" and name.endswith("/")):
        content = _content(stream, name, size)
        yield Member(name, Kind.FILE, size, "", executable, content)
        for _ in content:
            pass
        return
    match kind:
        case b"5" | b"\0":
            yield Member(name, Kind.FOLDER, 0, "", False, iter(()))
        case b"2":
            yield Member(name, Kind.SYMLINK, 0, target, False, iter(()))
        case b"1":
            yield Member(name, Kind.HARDLINK, 0, target, False, iter(()))
        case b"V":
            for _ in _content(stream, name, size):
                pass
        case _:
            raise invalid(f"entry {shown(name)} has the unknown type {kind!r}")


def _content(stream: Bounded, name: str, size: int) -> Iterator[bytes]:
    left = size
    while left:
        data = stream.read(min(left, CHUNK))
        if not data:
            raise invalid(f"it is cut off inside entry {shown(name)}")
        left -= len(data)
        yield data
    padding = -size % _BLOCK
    if len(stream.exactly(padding)) < padding:
        raise invalid(f"it is cut off after entry {shown(name)}")


def _extended_content(stream: Bounded, size: int) -> bytes:
    if size > _EXTENDED_LIMIT:
        raise invalid(f"an extended header claims {size} bytes")
    padded = size + -size % _BLOCK
    content = stream.exactly(padded)
    if len(content) < padded:
        raise invalid("it is cut off inside an extended header")
    return content[:size]


def _extend(extended: _Extended, kind: bytes, content: bytes) -> None:
    extended.headers += 1
    if extended.headers > _EXTENDED_CHAIN:
        raise invalid("one entry has too many extended headers")
    match kind:
        case b"L":
            extended.name = _text(content)
        case b"K":
            extended.target = _text(content)
        case b"x" | b"X":
            for key, value in _records(content):
                _override(extended, key, value)


def _override(extended: _Extended, key: str, value: str) -> None:
    match key:
        case "path":
            extended.name = value
        case "linkpath":
            extended.target = value
        case "size":
            if not value.isascii() or not value.isdigit() or len(value) > _SIZE_DIGITS:
                raise invalid(f"an extended header has the size {shown(value)}")
            extended.size = int(value)
        case _ if key.startswith("GNU.sparse."):
            extended.unsupported = _REFUSED[b"S"]


def _records(content: bytes) -> Iterator[tuple[str, str]]:
    """`<length> <key>=<value>\\n`, the length counting itself."""
    while content:
        digits, blank, _ = content[:20].partition(b" ")
        if not blank or not digits.isdigit():
            raise invalid("an extended header is damaged")
        length = int(digits)
        record = content[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n") or length > len(content):
            raise invalid("an extended header is damaged")
        yield key.decode("utf-8", "replace"), value[:-1].decode("utf-8", "surrogateescape")
        content = content[length:]


def _header_name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(raw: bytes) -> int:
    """Octal, or GNU's base 256 when the first bit is set."""
    if raw[0] & 0x80:
        value = int.from_bytes(bytes([raw[0] & 0x7F]) + raw[1:], "big")
        if raw[0] == 0xFF:
            raise invalid("a header holds a negative number")
        return value
    digits = raw.strip(b" \0")
    if not digits:
        return 0
    if not all(0x30 <= digit <= 0x37 for digit in digits):
        raise invalid("a header holds something that is not a number")
    return int(digits, 8)


def _check_sum(header: bytes) -> None:
    stated = _number(header[148:156])
    blanked = header[:148] + b" " * 8 + header[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in blanked)
    if stated not in (sum(blanked), signed):
        raise invalid("it is not a tar archive, or a header is damaged")
