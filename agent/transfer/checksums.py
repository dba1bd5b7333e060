"""Digests of content: incremental, combined from parts, or of a whole file."""

import hashlib
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol, assert_never

from awscrt import checksums

from agent.manifest import Algorithm, Digest

Buffer = bytes | bytearray | memoryview

CHUNK: Final = 1 << 20
# Hash width in hex digits, and how awscrt joins two of them.
_CRCS: Final = {
    Algorithm.CRC32C: (8, checksums.crc32c, checksums.combine_crc32c),
    Algorithm.CRC32: (8, checksums.crc32, checksums.combine_crc32),
    Algorithm.CRC64NVME: (16, checksums.crc64nvme, checksums.combine_crc64nvme),
}


class HashingCancelled(Exception):
    """The caller's stop flag was seen; nothing was found out."""


class Hasher(Protocol):
    """What hashlib's objects do, and `Crc` too."""

    def update(self, data: Buffer, /) -> None: ...

    def hexdigest(self) -> str: ...


class Crc:
    """A running CRC; awscrt uses the processor's instructions and releases the GIL for large buffers."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        _, self._step, _ = _CRCS[algorithm]
        self.value = 0

    def update(self, data: Buffer, /) -> None:
        self.value = self._step(data, self.value)

    def hexdigest(self) -> str:
        return crc_text(self._algorithm, self.value)


def is_combinable(algorithm: Algorithm) -> bool:
    """Whether parts may be hashed in any order and their digests joined; the others need the bytes in order."""
    return algorithm in _CRCS


def new_hasher(algorithm: Algorithm, size: int) -> Hasher:
    """size: bytes that will be hashed; git puts them in front of the content."""
    match algorithm:
        case Algorithm.SHA256:
            return hashlib.sha256()
        case Algorithm.GIT_SHA1:
            return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        case Algorithm.MD5:
            return hashlib.md5(usedforsecurity=False)
        case Algorithm.CRC64NVME | Algorithm.CRC32C | Algorithm.CRC32:
            return Crc(algorithm)
    assert_never(algorithm)


def join(algorithm: Algorithm, parts: Iterable[tuple[int, int]]) -> int:
    """CRC of a whole from (crc, bytes) of its parts in order; raises KeyError unless `is_combinable`."""
    _, _, combine = _CRCS[algorithm]
    value: int | None = None
    for crc, size in parts:
        value = crc if value is None else combine(value, crc, size)
    return value or 0


def crc_text(algorithm: Algorithm, value: int) -> str:
    """A CRC as `Digest.value` has it."""
    return f"{value:0{_CRCS[algorithm][0]}x}"


def hash_range(
    fd: int, start: int, end: int, hashers: Sequence[Hasher], cancelled: Callable[[], bool]
) -> bool:
    """Feed bytes [start, end) of a file to all hashers; False when the file ends before. Raises `HashingCancelled`.

    A file that was opened with O_DIRECT is read from a `start` that is a multiple of the page size.
    """
    size = min(CHUNK, -(-max(end - start, 1) // mmap.PAGESIZE) * mmap.PAGESIZE)
    with mmap.mmap(-1, size) as pages, memoryview(pages) as buffer:  # aligned, as O_DIRECT asks
        at = start
        while at < end:
            if cancelled():
                raise HashingCancelled
            count = min(os.preadv(fd, [buffer], at), end - at)
            if count == 0:
                return False
            for hasher in hashers:
                with buffer[:count] as piece:
                    hasher.update(piece)
            at += count
    return True


def hash_file(
    path: Path, algorithms: Sequence[Algorithm], cancelled: Callable[[], bool]
) -> tuple[Digest, ...]:
    """Digests of a regular file, in the order asked for; never follows a link. Raises OSError, `HashingCancelled`."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        hashers = [new_hasher(algorithm, size) for algorithm in algorithms]
        hash_range(fd, 0, size, hashers, cancelled)
    finally:
        os.close(fd)
    return tuple(
        Digest(algorithm, hasher.hexdigest())
        for algorithm, hasher in zip(algorithms, hashers, strict=True)
    )
