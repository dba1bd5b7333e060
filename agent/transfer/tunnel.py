"""TLS inside a proxy's TLS: `ssl` wraps no socket that it has wrapped before, so a thread carries what goes through it."""

import contextlib
import http.client
import select
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Final

_PIECE: Final = 64 << 10
_WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Tunnel(http.client.HTTPSConnection):
    """To a server behind TLS, through a proxy that `_create_connection` speaks TLS with as well."""

    def __init__(
        self, host: str, port: int | None, *, timeout: float, context: ssl.SSLContext
    ) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._inside = context
        self._beyond = ""

    def set_tunnel(
        self, host: str, port: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().set_tunnel(host, port, headers)
        self._beyond = host

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        # Its thread's alone from here on.
        outside, self.sock = self.sock, None
        self.sock = self._inside.wrap_socket(_plain_end(outside), server_hostname=self._beyond)


def _plain_end(secure: socket.socket) -> socket.socket:
    """A plain socket for what `secure` carries; when one of the two ends, so do the other and the thread."""
    near, far = socket.socketpair()
    near.settimeout(secure.gettimeout())
    threading.Thread(target=_carry, args=(secure, far), name="tunnel", daemon=True).start()
    return near


class _Way:
    """One direction, and what was taken there but not yet handed on."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self._source = source
        self._target = target
        self._held = memoryview(b"")

    def move(self) -> bool:
        """Whether anything was handed on. Raises OSError, and EOFError at the end."""
        try:
            if not self._held:
                self._held = memoryview(self._source.recv(_PIECE))
                if not self._held:
                    raise EOFError
            self._held = self._held[self._target.send(self._held) :]
        except _WOULD_BLOCK:
            return False
        return True

    @property
    def waits_for(self) -> tuple[socket.socket, int]:
        if self._held:
            return self._target, select.POLLOUT
        return self._source, select.POLLIN


def _carry(secure: socket.socket, far: socket.socket) -> None:
    with secure, far, contextlib.suppress(OSError, EOFError):
        secure.setblocking(False)
        far.setblocking(False)
        ways = (_Way(secure, far), _Way(far, secure))
        while True:
            # Both each time; TLS may hold decrypted bytes that no poll tells of.
            if not any([way.move() for way in ways]):
                _wait(ways)


def _wait(ways: tuple[_Way, ...]) -> None:
    events: dict[int, int] = {}
    for sock, event in (way.waits_for for way in ways):
        events[sock.fileno()] = events.get(sock.fileno(), 0) | event
    poll = select.poll()
    for fd, event in events.items():
        poll.register(fd, event)
    poll.poll()
