"""An HTTP server on the wire that misbehaves exactly as told."""

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Self

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True)
class Request:
    """One request as it came. number: how many came before it, over all connections."""

    number: int
    path: str
    headers: Mapping[str, str]

    @property
    def range(self) -> tuple[int, int] | None:
        """First byte and the one after the last."""
        match = _RANGE.fullmatch(self.headers.get("range", ""))
        return (int(match[1]), int(match[2]) + 1) if match else None


@dataclass(frozen=True)
class Reply:
    """What goes out. cut_after: close after so many bytes of the body; stall_after: be silent from there on.

    rate: bytes of the body per second, or of raw. raw: goes out instead of all that, as it is; then the connection is closed.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    stall_after: int | None = None
    chunked: bool = False
    rate: int | None = None
    raw: bytes | None = None


def ranged(content: bytes, request: Request, **headers: str) -> Reply:
    """As a good server answers: 206 with the range, or 200 with everything."""
    if request.range is None:
        return Reply(200, headers, content)
    start, end = request.range
    end = min(end, len(content))
    if start >= len(content):
        return Reply(416, {"Content-Range": f"bytes */{len(content)}"})
    shown = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}", **headers}
    return Reply(206, shown, content[start:end])


class FaultServer:
    """`with FaultServer(answer) as server:` — `answer` decides about every request, in the connection's own thread.

    accepted: connections so far.
    """

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.accepted = 0
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._stop = threading.Event()
        self._connections: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                connection.close()

    def wait_for(self, requests: int, *, seconds: float = 30) -> None:
        """Until so many requests have come; TimeoutError when they do not."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= requests, seconds):
                raise TimeoutError(f"{len(self.requests)} requests, {requests} expected")

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # As servers do: head and body are two writes, and the second must not wait for an acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.accepted += 1
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as lines:
                while (request := self._read(lines)) is not None:
                    if not self._send(connection, self.answer(request)):
                        return
        except OSError:
            return

    def _read(self, lines: BinaryIO) -> Request | None:
        first = lines.readline().decode()
        if not first.strip():
            return None
        headers = {}
        while (line := lines.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        with self._lock:
            request = Request(len(self.requests), first.split()[1], headers)
            self.requests.append(request)
            self._arrived.notify_all()
        return request

    def _send(self, connection: socket.socket, reply: Reply) -> bool:
        """False when the connection must not be used again."""
        if reply.raw is not None:
            self._send_at(connection, reply.raw, reply.rate)
            return False
        headers = dict(reply.headers)
        if reply.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers.setdefault("Content-Length", str(len(reply.body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(f"HTTP/1.1 {reply.status} X\r\n{head}\r\n".encode())
        body = reply.body
        limit = reply.cut_after if reply.cut_after is not None else reply.stall_after
        if limit is not None:
            body = body[:limit]
        if reply.chunked:
            body = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            if limit is None:
                body += b"0\r\n\r\n"
        if not self._send_at(connection, body, reply.rate):
            return False
        if reply.stall_after is not None:
            while not self._stop.is_set():
                time.sleep(0.05)
        return limit is None

    def _send_at(self, connection: socket.socket, content: bytes, rate: int | None) -> bool:
        """False when the server ends before."""
        step = max(1, rate // 20) if rate else max(1, len(content))
        for at in range(0, len(content), step):
            if rate and self._stop.wait(1 / 20):
                return False
            connection.sendall(content[at : at + step])
        return True
