"""Answers as http.client reads them, in bounded time and with little between the socket and the buffer."""

import http.client
import io
import socket
import time
from typing import Any, cast

from agent.transfer import silence
from agent.transfer.silence import TooSlow


class _Incoming(io.RawIOBase):
    """What a socket brings until a moment; a head that comes byte by byte does not end by then."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.go_on()

    def go_on(self) -> None:
        self._until = time.monotonic() + silence.SILENCE_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._until:
            raise TooSlow
        return cast(int | None, self._source.readinto(buffer))

    def close(self) -> None:
        super().close()
        self._source.close()


class Response(http.client.HTTPResponse):
    """One whose head comes in time, and whose body can be had as it comes."""

    def __init__(self, sock: socket.socket, *args: Any, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        self._sock = sock
        self._incoming = _Incoming(self.fp.detach())
        self.fp = io.BufferedReader(self._incoming)
        # Whether nothing of the body is in `fp` any more.
        self._drained = False
        self._broken: OSError | None = None

    def read_some(self, buffer: memoryview, seconds: float) -> int:
        """What comes within the time or fits, at least a byte; 0 at the body's end. Raises OSError, HTTPException."""
        if self.fp is None:
            return 0
        self._incoming.go_on()
        if self.chunked:
            data = self.read1(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        wanted = buffer[: self.length]
        if self._drained:
            count = self._receive(wanted, seconds)
        else:
            # Whatever is larger than its own buffer, `fp` gives all it has, and reads no more than is asked for.
            self._drained = len(wanted) > io.DEFAULT_BUFFER_SIZE
            count = self.fp.readinto1(wanted)
        if self.length is not None:
            self.length -= count
        if not count or self.length == 0:
            self.close()
        return count

    def _receive(self, buffer: memoryview, seconds: float) -> int:
        """TLS gives 16 KiB at a time: six calls in between instead of one took as long as the cipher."""
        if self._broken is not None:
            raise self._broken
        receive, now, size, count = self._sock.recv_into, time.monotonic, len(buffer), 0
        until = now() + seconds
        try:
            while count < size and (came := receive(buffer[count:])):
                count += came
                if now() > until:
                    break
        except OSError as exc:
            if not count:
                raise
            self._broken = exc
        return count
