"""Connections that several fetches share, and requests over them."""

import contextlib
import threading
import time
from collections.abc import Mapping
from typing import Final, Self

from agent.errors import Stalled
from agent.policy import Endpoint, SourcePolicy
from agent.tls import Tls
from agent.transfer.connection import BROKEN, Connection, Latency, unreachable
from agent.transfer.response import Response
from agent.transfer.silence import Pulse, TooSlow
from shared.domain.reasons import Reason
from shared.domain.uri import redact

# Servers close idle connections after 5 s (Node) to 75 s (nginx); a stale one costs a retry only.
_IDLE_SECONDS: Final = 15.0
_MAX_IDLE: Final = 128
# A slow link fills no buffer in this time; what has come by then is better on disk.
_FILL_SECONDS: Final = 1.0
# Bytes that are read to keep a connection rather than to open another.
_LITTLE: Final = 16 << 10


class Pool:
    """Idle connections by endpoint, for all fetches; and those in use, by owner, so that an owner's can be cut."""

    def __init__(self, policy: SourcePolicy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._used: dict[Connection, object] = {}
        self._latency = Latency()

    def take(self, url: str, tls: Tls, *, owner: object, fresh: bool = False) -> Connection:
        """An idle connection to the URL's endpoint, or a new one (always, with `fresh`)."""
        endpoint = Endpoint.of(url)
        with self._lock:
            self._drop_old()
            found = None if fresh else self._find(endpoint, tls)
            connection = found or Connection(
                endpoint, tls, self._policy, self._policy.proxy(url), self._latency
            )
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

    @property
    def latency(self) -> float | None:
        """Seconds until answers begin, at best; None before the first."""
        return self._latency.least

    def forget_latency(self) -> None:
        self._latency.least = None

    def __len__(self) -> int:
        """Connections in use."""
        return len(self._used)

    def _find(self, endpoint: Endpoint, tls: Tls) -> Connection | None:
        # The youngest: the others may grow old and go.
        for index in range(len(self._idle) - 1, -1, -1):
            candidate = self._idle[index]
            if candidate.endpoint == endpoint and candidate.tls == tls:
                del self._idle[index]
                if candidate.is_quiet:
                    return candidate
                candidate.close()
        return None

    def _drop_old(self) -> None:
        limit = time.monotonic() - _IDLE_SECONDS
        while self._idle and self._idle[0].idle_since < limit:
            self._idle.pop(0).close()


class Answer:
    """The head of an answer, and its body to be read once. Leaving the `with` block gives the connection back."""

    def __init__(self, url: str, pool: Pool, connection: Connection, response: Response) -> None:
        self.url = url
        self._pool = pool
        self._connection = connection
        self._response = response
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self._broken: Exception | None = None
        self._pulse = Pulse()

    def read_into(self, buffer: memoryview) -> int:
        """Fill the buffer as far as the body goes, or for a while; 0 at its end.

        Raises OSError, HTTPException; first it hands over what came before.
        """
        if self._broken is not None:
            raise self._broken
        filled, started, waited = 0, time.monotonic(), 0.0
        try:
            while filled < len(buffer) and waited < _FILL_SECONDS:
                count = self._response.read_some(buffer[filled:], _FILL_SECONDS - waited)
                if count == 0:
                    break
                filled += count
                waited = time.monotonic() - started
        except BROKEN as exc:
            if not filled:
                raise
            self._broken = exc
        if not self._pulse.beat(filled, waited):
            self._broken = TooSlow()
        return filled

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
            with contextlib.suppress(*BROKEN):
                self.read_into(memoryview(bytearray(_LITTLE)))
        if self.ended and not self.missing:
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
        except BROKEN as exc:
            pool.discard(connection)
            if stale and not fresh and not isinstance(exc, TimeoutError):
                fresh = True
                continue
            raise unreachable(url, exc) from exc
        except ValueError as exc:
            pool.discard(connection)
            raise Stalled(
                Reason.SOURCE_ERROR,
                f"{redact(url)}: address or headers hold characters that HTTP does not allow",
            ) from exc
