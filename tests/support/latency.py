"""A long link on loopback: `with Link(port, delay=0.02, log=log) as link`: `link.port` leads to `port`, but later.

A process of its own. The delay is one way: a round trip takes two of it, and so does opening a connection. As TCP's
windows do, each direction of a connection lets WINDOW bytes be on their way: with 20 ms that is 100 MB/s.
"""

import asyncio
import sys
from pathlib import Path
from typing import Self, cast

from tests.support.processes import LOOPBACK, Process, answers, free_port

WINDOW = 2 << 20


class Link:
    """The proxy while it runs. target: port on loopback. delay: seconds, one way."""

    def __init__(self, target: int, *, delay: float, log: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "tests.support.latency", str(self.port), str(target)]
        self._process = Process("link", [*command, str(delay)], log=log)

    def __enter__(self) -> Self:
        self._process.start()
        self._process.wait_ready(lambda: answers(f"http://{LOOPBACK}:{self.port}/"), seconds=20)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()


class _Side(asyncio.Protocol):
    """One end of a connection; what it receives leaves by the other end, later."""

    def __init__(self, delay: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._delay = delay
        self._on_the_way = 0
        self._blocked = False
        self._transport: asyncio.Transport | None = None
        self.other: _Side | None = None

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._on_the_way += len(data)
        if self._on_the_way >= WINDOW:
            self.transport.pause_reading()
        self._loop.call_later(self._delay, self._arrived, data)

    def eof_received(self) -> bool:
        self._later("write_eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._later("close")

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        if self.other is not None:
            self.other.go_on()

    def go_on(self) -> None:
        """Read again, when there is room on the way and at its end."""
        blocked = self.other is not None and self.other._blocked
        if self._on_the_way < WINDOW and not blocked and not self.transport.is_closing():
            self.transport.resume_reading()

    def _arrived(self, data: bytes) -> None:
        self._on_the_way -= len(data)
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)
        self.go_on()

    def _later(self, act: str) -> None:
        def done() -> None:
            if self.other is not None and not self.other.transport.is_closing():
                getattr(self.other.transport, act)()

        self._loop.call_later(self._delay, done)


class _Entry(_Side):
    """The client's end: nothing is read until the link is open."""

    def __init__(self, delay: float, target: int) -> None:
        super().__init__(delay)
        self._target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._opening = self._loop.create_task(self._open(), name="open")

    async def _open(self) -> None:
        await asyncio.sleep(2 * self._delay)
        try:
            _, self.other = await self._loop.create_connection(
                lambda: _Side(self._delay), LOOPBACK, self._target
            )
        except OSError:
            self.transport.abort()
            return
        self.other.other = self
        self.go_on()
        if self.transport.is_closing():
            self.other.transport.close()


async def _serve(port: int, target: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Entry(delay, target), LOOPBACK, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
