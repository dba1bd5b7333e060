"""Reading a git pack that is in memory: every object's name is computed, every size is bounded. Pure."""

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.errors import Stalled
from agent.manifest import MOST_FILES
from shared.domain.reasons import Reason

_KINDS = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
_OFS_DELTA, _REF_DELTA = 6, 7
_TRAILER = 20
_PIECE = 16 << 10


@dataclass(frozen=True, slots=True)
class GitObject:
    kind: bytes
    data: bytes

    @property
    def name(self) -> str:
        """SHA-1 over a header and the content."""
        return hashlib.sha1(  # noqa: S324 — git's own name
            b"%s %d\0" % (self.kind, len(self.data)) + self.data
        ).hexdigest()


@dataclass(frozen=True, slots=True)
class _Delta:
    """base: offset of another entry, or name of an object."""

    base: int | str
    data: bytes


def objects(
    pack: bytes | bytearray, *, limit_bytes: int, check: Callable[[], None] = lambda: None
) -> Mapping[str, GitObject]:
    """All objects by name. Raises Stalled: damaged, too many, or larger than `limit_bytes` when unpacked.

    check: called again and again; what it raises ends the reading.
    """
    if len(pack) < 12 + _TRAILER or pack[:4] != b"PACK":
        raise damaged("it is no pack")
    body = memoryview(pack)[:-_TRAILER]
    if hashlib.sha1(body).digest() != pack[-_TRAILER:]:  # noqa: S324
        raise damaged("its checksum is wrong")
    count = int.from_bytes(pack[8:12], "big")
    if count > MOST_FILES:
        raise Stalled(
            Reason.INVALID_SOURCE,
            f"the repository has {count:,} files and folders; {MOST_FILES:,} are taken at most",
        )
    found: dict[int, GitObject] = {}
    deltas: dict[int, _Delta] = {}
    at, left = 12, limit_bytes
    for _ in range(count):
        check()
        start = at
        kind, size, at = _header(body, at)
        left -= size
        if left < 0:
            raise Stalled(
                Reason.INVALID_SOURCE,
                f"the repository is larger than {limit_bytes >> 20} MiB without what git-lfs keeps; git is for small ones",
            )
        base: int | str | None = None
        if kind == _OFS_DELTA:
            back, at = _offset(body, at)
            base = start - back
        elif kind == _REF_DELTA:
            base, at = bytes(body[at : at + 20]).hex(), at + 20
        data, at = _inflate(body, at, size)
        if base is not None:
            deltas[start] = _Delta(base, data)
        elif kind in _KINDS:
            found[start] = GitObject(_KINDS[kind], data)
        else:
            raise damaged(f"an object of the unknown kind {kind}")
    return _named(found, deltas, left, check)


def damaged(why: str) -> Stalled:
    return Stalled(Reason.INVALID_SOURCE, f"the repository's pack: {why}")


def _named(
    found: Mapping[int, GitObject],
    deltas: Mapping[int, _Delta],
    left: int,
    check: Callable[[], None],
) -> Mapping[str, GitObject]:
    """Each delta is applied once, as soon as its base is there."""
    waiting: defaultdict[int | str, list[int]] = defaultdict(list)
    for at, delta in deltas.items():
        waiting[delta.base].append(at)
    by_name: dict[str, GitObject] = {}
    ready = list(found.items())
    while ready:
        check()
        at, base = ready.pop()
        name = base.name
        by_name[name] = base
        for child in (*waiting.pop(at, ()), *waiting.pop(name, ())):
            data = _apply(base.data, deltas[child].data, left)
            left -= len(data)
            ready.append((child, GitObject(base.kind, data)))
    if waiting:
        raise damaged("a delta has no base")
    return by_name


def _header(view: memoryview, at: int) -> tuple[int, int, int]:
    """Kind, size when unpacked, and where the header ends."""
    byte = _byte(view, at)
    kind, size, shift = (byte >> 4) & 7, byte & 15, 4
    at += 1
    while byte & 0x80:
        byte = _byte(view, at)
        size |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if shift > 63:
            raise damaged("a size is too large")
    return kind, size, at


def _offset(view: memoryview, at: int) -> tuple[int, int]:
    byte = _byte(view, at)
    value, at = byte & 0x7F, at + 1
    while byte & 0x80:
        byte = _byte(view, at)
        value, at = ((value + 1) << 7) | (byte & 0x7F), at + 1
        if value > 1 << 62:
            raise damaged("an offset is too large")
    return value, at


def _byte(view: memoryview, at: int) -> int:
    if at >= len(view):
        raise damaged("it is cut off")
    return view[at]


def _inflate(view: memoryview, at: int, size: int) -> tuple[bytes, int]:
    """One compressed stream and where it ends; never more than the claimed size is unpacked."""
    stream = zlib.decompressobj()
    data = bytearray()
    try:
        while not stream.eof and at < len(view):
            # zlib copies what it does not use: a little at a time.
            piece = view[at : at + _PIECE]
            # One byte more, so that a stream that goes on is noticed and one that ends is seen to end.
            data += stream.decompress(piece, size + 1 - len(data))
            if len(data) > size:
                break
            at += len(piece) - len(stream.unused_data) - len(stream.unconsumed_tail)
    except zlib.error:
        raise damaged("an object cannot be unpacked") from None
    if len(data) != size or not stream.eof:
        raise damaged("an object is not as long as it says")
    return bytes(data), at


def _apply(base: bytes, delta: bytes, limit: int) -> bytes:
    view = memoryview(delta)
    size, at = _size(view, 0)
    if size != len(base):
        raise damaged("a delta is for another base")
    wanted, at = _size(view, at)
    if wanted > limit:
        raise damaged("a delta makes too large an object")
    out = bytearray()
    while at < len(view):
        code = view[at]
        at += 1
        if code & 0x80:
            fields = []
            for bit in range(7):
                value = 0
                if code >> bit & 1:
                    value, at = _byte(view, at), at + 1
                fields.append(value)
            start = int.from_bytes(bytes(fields[:4]), "little")
            length = int.from_bytes(bytes(fields[4:]), "little") or 0x10000
            if start + length > len(base):
                raise damaged("a delta copies what is not there")
            out += base[start : start + length]
        elif code:
            out += view[at : at + code]
            at += code
        else:
            raise damaged("a delta holds an unknown instruction")
        if len(out) > wanted:
            break
    if len(out) != wanted:
        raise damaged("a delta makes an object of another size")
    return bytes(out)


def _size(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = _byte(view, at)
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise damaged("a size is too large")
