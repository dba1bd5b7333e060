"""HTTP/1.1 over a connection that never blocks, as far as the plain course of things needs it."""

import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.policy import Endpoint
from agent.transfer import ask, silence
from agent.transfer.connection import Connection
from agent.transfer.work import PartWork, Route

# Answers with longer heads are none that a store sends.
_HEAD_BYTES: Final = 16 << 10
# Bodies of redirects and refusals.
_LITTLE: Final = 16 << 10
_WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True, slots=True)
class Head:
    """Of an answer whose body has a length."""

    url: str
    status: int
    headers: Mapping[str, str]
    size: int

    @classmethod
    def parse(cls, url: str, text: str) -> "Head":
        """Raises ValueError for whatever is not quite plain."""
        first, *lines = text.split("\r\n")
        version, _, status = first.partition(" ")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            name, value = name.lower(), value.strip(" \t")
            if not colon or name != name.strip() or (name in headers and name == "content-length"):
                raise ValueError("not a header, or a length that is given twice")
            headers[name] = value
        size = headers.get("content-length", "")
        plain = size.isascii() and size.isdigit() and "transfer-encoding" not in headers
        if version != "HTTP/1.1" or not plain:
            raise ValueError("not a plain answer")
        return cls(url, int(status[:3]), headers, int(size))

    @property
    def keeps_open(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class Line:
    """A connection and the file that it brings now."""

    def __init__(self, via: Connection) -> None:
        self.via = via
        self.sock: socket.socket = via.plain_socket()
        self.part: PartWork | None = None
        self.heard = self.asked = 0.0
        self.head: Head | None = None
        self._buffer = bytearray()
        self._have = 0
        self._begin = 0

    @property
    def silent(self) -> bool:
        """Whether nothing at all has come since the last request."""
        return self._have == 0

    def is_left(self, now: float) -> bool:
        """Whether the peer is silent, or as good as that."""
        since = now - self.asked
        drips = since > silence.SILENCE_SECONDS and self._have < since * silence.LEAST_RATE
        return drips or now - self.heard > silence.SILENCE_SECONDS

    def pause(self, seconds: float) -> None:
        """Nobody listened for so long."""
        self.heard += seconds
        self.asked += seconds

    def send(self, part: PartWork, route: Route) -> None:
        """Raises OSError, ValueError, and the policy's `Stalled`.

        A request fits into the empty buffer of a socket; where it does not, this is no plain course.
        """
        place = route.place
        request = self.via.request(place.url, {**ask.HEADERS, **place.headers})
        enough = room(part.of.size or 0)
        if len(self._buffer) < enough:
            self._buffer = bytearray(enough)
        self.head, self._have = None, 0
        self.heard = self.asked = time.monotonic()
        self.via.used = True
        if self.sock.send(request) != len(request):
            raise OSError("the request was not taken whole")

    def receive(self, url: str, size: int) -> memoryview | None:
        """Take what there is; the body once all of it is there. url: that was asked for. size: that is expected.

        Raises OSError, also at the connection's end, and ValueError for an answer that is not plain.
        """
        self._take()
        if self.head is None:
            end = self._buffer.find(b"\r\n\r\n", 0, min(self._have, _HEAD_BYTES))
            if end < 0:
                if self._have >= _HEAD_BYTES:
                    raise ValueError("a head without end")
                return None
            self.head = Head.parse(url, self._buffer[:end].decode("latin-1"))
            self._begin = end + 4
            if self.head.size > max(size, _LITTLE):
                raise ValueError("a body that nobody asked for")
        body = memoryview(self._buffer)[self._begin : self._have]
        if len(body) > self.head.size:
            raise ValueError("more than was announced")
        return body if len(body) == self.head.size else None

    def _take(self) -> None:
        while True:
            try:
                count = self.sock.recv_into(memoryview(self._buffer)[self._have :])
            except _WOULD_BLOCK:
                return
            if count == 0:
                raise OSError("closed, or more than was to come")
            now = time.monotonic()
            if self._have == 0:
                self.via.latency.add(now - self.heard)
            self._have += count
            self.heard = now
            # TLS may hold more of what it has decrypted, and nothing would tell.
            if not isinstance(self.sock, ssl.SSLSocket) or self._have == len(self._buffer):
                return


def room(size: int) -> int:
    """Bytes of memory for a file of `size` bytes."""
    return _HEAD_BYTES + max(size, _LITTLE)


def endpoint_of(part: PartWork) -> Endpoint:
    """Where the part is asked for now."""
    return Endpoint.of(ask.route_of(part).place.url)


def is_plain(part: PartWork) -> bool:
    """Whether the part is a whole file, to be asked for at a web server and nowhere else afterwards."""
    whole = part.is_whole_file and part.at == part.start
    todo = not (part.finished or part.void) and bool(part.of.size)
    return whole and todo and isinstance(part.route, Route) and not part.route.signed.watched
