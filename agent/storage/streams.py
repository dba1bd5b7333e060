"""Bytes of an archive in order, never more of them than allowed."""

import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

from agent.storage.errors import Cancelled
from agent.storage.member import CHUNK, invalid, too_large

_GZIP = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f"


class Stream(Protocol):
    """Something that is read once, front to back."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, at least one; none at the end."""
        ...


class Gunzip:
    """Concatenated gzip members, their checksums verified; zeros behind the last one are padding."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._inflate = zlib.decompressobj(_GZIP)
        self._input = b""
        self._between = False

    def read(self, size: int) -> bytes:
        while True:
            if self._between and not self._next_member():
                return b""
            if not self._input:
                self._input = self._packed.read(CHUNK)
            fed = bool(self._input)
            try:
                data = self._inflate.decompress(self._input, size)
            except zlib.error as exc:
                raise invalid(f"its gzip stream is damaged ({exc})") from exc
            self._input = self._inflate.unconsumed_tail
            if self._inflate.eof:
                self._input = self._inflate.unused_data
                self._between = True
            elif not fed and not data:
                raise invalid("it is cut off: its gzip stream has no end")
            if data:
                return data

    def _next_member(self) -> bool:
        self._input = self._input.lstrip(b"\0")
        while not self._input:
            more = self._packed.read(CHUNK)
            if not more:
                return False
            self._input = more.lstrip(b"\0")
        if not self._input.startswith(_MAGIC):
            raise invalid("garbage follows its last gzip member")
        self._inflate = zlib.decompressobj(_GZIP)
        self._between = False
        return True


class Bounded:
    """Counts what is read and ends it, for a limit or a caller who no longer wants it."""

    def __init__(self, stream: Stream, *, limit: int, cancelled: Callable[[], bool]) -> None:
        self._stream = stream
        self._left = limit
        self._limit = limit
        self._cancelled = cancelled

    def read(self, size: int) -> bytes:
        if self._cancelled():
            raise Cancelled
        data = self._stream.read(min(size, CHUNK))
        self._left -= len(data)
        if self._left < 0:
            raise too_large(f"it unpacks to more than the {self._limit} bytes that it may")
        return data

    def exactly(self, size: int) -> bytes:
        """All of them, or fewer at the end; for sizes that fit into memory."""
        data = bytearray()
        while len(data) < size and (more := self.read(size - len(data))):
            data += more
        return bytes(data)
