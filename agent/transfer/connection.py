"""Kept-alive HTTP/1.1 connections for threads: bounded waits, checked addresses, and a way to cut them from outside."""

import base64
import http.client
import socket
import threading
import time
from collections.abc import Mapping
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from agent.errors import Retryable, Stalled
from agent.policy import Endpoint, SourcePolicy
from agent.tls import Tls
from shared.domain.reasons import Reason
from shared.domain.uri import redact

CONNECT_SECONDS: Final = 10.0
# No byte for this long: the peer is dead, another connection goes on from the last byte.
SILENCE_SECONDS: Final = 30.0
# Servers close idle connections after 5 s (Node) to 75 s (nginx); a stale one costs a retry only.
_IDLE_SECONDS: Final = 15.0
_MAX_IDLE: Final = 64
_LITTLE: Final = 16 << 10
_BROKEN = (http.client.HTTPException, OSError)


class Connection:
    """One connection, to a source or through a proxy; for one thread at a time, `abort` excepted."""

    def __init__(
        self, endpoint: Endpoint, tls: Tls, policy: SourcePolicy, proxy: str | None
    ) -> None:
        self.endpoint = endpoint
        self.tls = tls
        self.idle_since = 0.0
        self.used = False
        self._policy = policy
        self._proxy = urlsplit(proxy) if proxy else None
        self._aborted = False
        self._http = self._new()

    def get(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Send a GET and read the answer's head. Raises OSError, HTTPException, and the policy's `Stalled`."""
        parts = urlsplit(url)
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        extra = {}
        if self._proxy is not None and self.endpoint.scheme == "http":
            self._policy.check_literal(self.endpoint.host)
            target = f"http://{parts.netloc}{target}"
            extra = self._proxy_headers()
        self._http.request("GET", target, headers={**headers, **extra})
        response = self._http.getresponse()
        self.used = True
        return response

    @property
    def reusable(self) -> bool:
        """Whether another request may follow: the last answer was read to its end and nobody closed."""
        return self._http.sock is not None and not self._aborted

    def abort(self) -> None:
        """From any thread: whoever blocks on this connection fails at once."""
        self._aborted = True
        sock = self._http.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def close(self) -> None:
        self._http.close()

    def _new(self) -> http.client.HTTPConnection:
        host, port = self.endpoint.host, self.endpoint.port
        if self._proxy is not None and self.endpoint.scheme == "https":
            via = Endpoint.of(self._proxy.geturl())
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                via.host, via.port, timeout=SILENCE_SECONDS, context=self.tls.context()
            )
            connection.set_tunnel(host, port, headers=self._proxy_headers())
        elif self._proxy is not None:
            via = Endpoint.of(self._proxy.geturl())
            connection = http.client.HTTPConnection(via.host, via.port, timeout=SILENCE_SECONDS)
        elif self.endpoint.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, port, timeout=SILENCE_SECONDS, context=self.tls.context()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=SILENCE_SECONDS)
        # The one hook of http.client for how a socket is made; urllib3 and others rely on it as well.
        connection._create_connection = self._dial  # type: ignore[attr-defined]
        return connection

    def _dial(
        self, address: tuple[str, int], timeout: float, source: object = None
    ) -> socket.socket:
        host, port = address
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        if self._proxy is None:
            for *_, place in found:
                self._policy.check_address(host, str(place[0]))
        elif self.endpoint.scheme == "https":
            self._policy.check_literal(self.endpoint.host)
        failed: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, place in found:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(CONNECT_SECONDS)
                sock.connect(place)
                sock.settimeout(SILENCE_SECONDS)
                return sock
            except OSError as exc:
                sock.close()
                failed = exc
        raise failed

    def _proxy_headers(self) -> dict[str, str]:
        if self._proxy is None or self._proxy.username is None:
            return {}
        pair = f"{unquote(self._proxy.username)}:{unquote(self._proxy.password or '')}"
        return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


class Pool:
    """Idle connections by endpoint, for all fetches; and those in use, by owner, so that an owner's can be cut."""

    def __init__(self, policy: SourcePolicy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._used: dict[Connection, object] = {}

    def take(self, url: str, tls: Tls, *, owner: object, fresh: bool = False) -> Connection:
        """An idle connection to the URL's endpoint, or a new one (always, with `fresh`)."""
        endpoint = Endpoint.of(url)
        with self._lock:
            self._drop_old()
            found = None if fresh else self._find(endpoint, tls)
            connection = found or Connection(endpoint, tls, self._policy, self._policy.proxy(url))
            self._used[connection] = owner
        return connection

    def give_back(self, connection: Connection) -> None:
        """Kept for the next request when it can carry one, else closed."""
        with self._lock:
            self._used.pop(connection, None)
            if connection.reusable and len(self._idle) < _MAX_IDLE:
                connection.idle_since = time.monotonic()
                self._idle.append(connection)
                return
        connection.close()

    def discard(self, connection: Connection) -> None:
        with self._lock:
            self._used.pop(connection, None)
        connection.close()

    def abort(self, owner: object) -> None:
        """Cut all connections that `owner` uses."""
        with self._lock:
            mine = [connection for connection, of in self._used.items() if of is owner]
        for connection in mine:
            connection.abort()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __len__(self) -> int:
        """Connections in use."""
        return len(self._used)

    def _find(self, endpoint: Endpoint, tls: Tls) -> Connection | None:
        # The youngest: the others may grow old and go.
        for index in range(len(self._idle) - 1, -1, -1):
            candidate = self._idle[index]
            if candidate.endpoint == endpoint and candidate.tls == tls:
                return self._idle.pop(index)
        return None

    def _drop_old(self) -> None:
        limit = time.monotonic() - _IDLE_SECONDS
        while self._idle and self._idle[0].idle_since < limit:
            self._idle.pop(0).close()


class Answer:
    """The head of an answer, and its body to be read once. Leaving the `with` block gives the connection back."""

    def __init__(
        self, url: str, pool: Pool, connection: Connection, response: http.client.HTTPResponse
    ) -> None:
        self.url = url
        self._pool = pool
        self._connection = connection
        self._response = response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    def read_into(self, buffer: memoryview) -> int:
        """Fill the buffer as far as the body goes; 0 at its end. Raises OSError, HTTPException."""
        return self._response.readinto(buffer)

    @property
    def missing(self) -> int:
        """Bytes that the announced length still lacks, after the body's end; 0 when there was none."""
        return int(self._response.length or 0)

    @property
    def ended(self) -> bool:
        """Whether the body has been read to its end."""
        return self._response.isclosed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        # An answer that was not read to its end leaves bytes on the line: the connection is of no more use. Reading
        # on pays for the few bytes of a redirect or an error.
        if not self.ended and (self._response.length or _LITTLE + 1) <= _LITTLE:
            try:
                self._response.read()
            except _BROKEN:
                self._connection.abort()
        if self.ended:
            self._pool.give_back(self._connection)
        else:
            self._response.close()
            self._pool.discard(self._connection)


def request(pool: Pool, url: str, headers: Mapping[str, str], tls: Tls, *, owner: object) -> Answer:
    """One GET, without following redirects. Raises `Retryable(SourceUnreachable)` and the policy's `Stalled`.

    A kept-alive connection that the server closed meanwhile is replaced by a new one, silently.
    """
    fresh = False
    while True:
        connection = pool.take(url, tls, owner=owner, fresh=fresh)
        stale = connection.used
        try:
            return Answer(url, pool, connection, connection.get(url, headers))
        except Stalled:
            pool.discard(connection)
            raise
        except _BROKEN as exc:
            pool.discard(connection)
            if stale and not fresh and not isinstance(exc, TimeoutError):
                fresh = True
                continue
            raise unreachable(url, exc) from exc


def unreachable(url: str, exc: BaseException) -> Retryable:
    """A broken or silent connection, without the URL's query and user."""
    place = redact(url)
    if isinstance(exc, TimeoutError):
        return Retryable(
            Reason.SOURCE_UNREACHABLE, f"{place}: no answer for {SILENCE_SECONDS:.0f} s"
        )
    # Never the exception's own text: some quote the URL, signature included.
    detail = (exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__
    return Retryable(Reason.SOURCE_UNREACHABLE, f"{place}: connection failed: {detail}")
