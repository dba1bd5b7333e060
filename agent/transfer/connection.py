"""Kept-alive HTTP/1.1 connections for threads: bounded waits, checked addresses, and a way to cut them from outside."""

import base64
import contextlib
import http.client
import re
import select
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import unquote, urlsplit

from agent.errors import Retryable
from agent.policy import Endpoint, SourcePolicy
from agent.tls import Tls, verified
from agent.transfer import silence
from agent.transfer.response import Response
from agent.transfer.silence import TooSlow
from agent.transfer.tunnel import Tunnel
from shared.domain.reasons import Reason
from shared.domain.uri import redact

CONNECT_SECONDS: Final = 10.0
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
# Of a URL, its path and its query; no more is taken apart for each of many small files.
_TARGET = re.compile(r"[A-Za-z]+://[^/?#]*([^?#]*)(\?[^#]+)?")
BROKEN = (http.client.HTTPException, OSError)


class Latency:
    """Seconds between requests and the beginning of their answers: the least so far, which no load of this machine adds to."""

    def __init__(self) -> None:
        self.least: float | None = None

    def add(self, seconds: float) -> None:
        if self.least is None or seconds < self.least:
            self.least = seconds


class Connection:
    """One connection, to a source or through a proxy; for one thread at a time, `abort` excepted."""

    def __init__(
        self,
        endpoint: Endpoint,
        tls: Tls,
        policy: SourcePolicy,
        proxy: str | None,
        latency: Latency,
    ) -> None:
        self.endpoint = endpoint
        self.tls = tls
        self.idle_since = 0.0
        self.used = False
        self._policy = policy
        self._proxy = urlsplit(proxy) if proxy else None
        self._aborted = False
        host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
        default = _DEFAULT_PORTS.get(endpoint.scheme)
        self._host = host if endpoint.port == default else f"{host}:{endpoint.port}"
        self.latency = latency
        # A second name of the socket: http.client's own object is another one while TLS is being set up.
        self._lifeline: socket.socket | None = None
        self._http = self._new()

    def open(self) -> None:
        """Connect now. Raises OSError, HTTPException, and the policy's `Stalled`."""
        self._http.connect()

    def plain_socket(self) -> socket.socket:
        """The open socket, which no longer blocks, for whoever speaks HTTP itself; `blocking_again` ends that."""
        sock = self._http.sock
        if sock is None:
            raise OSError("not connected")
        sock.setblocking(False)
        return sock

    def blocking_again(self) -> None:
        if self._http.sock is not None:
            self._http.sock.settimeout(silence.SILENCE_SECONDS)

    def request(self, url: str, headers: Mapping[str, str]) -> bytes:
        """A GET as it goes over the line. Raises ValueError for what would break out of it, and the policy's `Stalled`."""
        target, extra = self._target(url)
        lines = [f"GET {target} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in {**headers, **extra}.items()]
        if _UNSAFE.search("".join(lines)) or " " in target:
            raise ValueError("control characters in a request")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """Send a GET and read the answer's head. Raises OSError, HTTPException, and the policy's `Stalled`."""
        target, extra = self._target(url)
        self._http.request("GET", target, headers={**headers, **extra})
        started = time.monotonic()
        response = cast(Response, self._http.getresponse())
        self.latency.add(time.monotonic() - started)
        self.used = True
        return response

    def _target(self, url: str) -> tuple[str, dict[str, str]]:
        """What is asked for, and what a proxy wants to know besides."""
        found = _TARGET.match(url)
        if found is None:
            raise ValueError("not a web address")
        target = (found[1] or "/") + (found[2] or "")
        extra: dict[str, str] = {}
        if self._proxy is not None and self.endpoint.scheme == "http":
            self._policy.check_literal(self.endpoint.host)
            target = f"http://{urlsplit(url).netloc}{target}"
            extra = self._proxy_headers()
        return target, extra

    @property
    def reusable(self) -> bool:
        """Whether another request may follow: the last answer was read to its end and nobody closed."""
        return self._http.sock is not None and not self._aborted

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come since the last answer: neither the connection's end nor bytes that nobody asked for."""
        sock = self._http.sock
        if sock is None:
            return False
        # Not select, which knows no descriptors above 1,023.
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return not poll.poll(0)

    def abort(self) -> None:
        """From any thread: whoever blocks on this connection fails at once."""
        self._aborted = True
        lifeline = self._lifeline
        if lifeline is not None:
            with contextlib.suppress(OSError):
                lifeline.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._http.close()
        if self._lifeline is not None:
            self._lifeline.close()

    def _new(self) -> http.client.HTTPConnection:
        host, port = self.endpoint.host, self.endpoint.port
        if self._proxy is not None and self.endpoint.scheme == "https":
            via = Endpoint.of(self._proxy.geturl())
            kind = Tunnel if via.scheme == "https" else http.client.HTTPSConnection
            connection: http.client.HTTPConnection = kind(
                via.host, via.port, timeout=silence.SILENCE_SECONDS, context=self.tls.context()
            )
            connection.set_tunnel(host, port, headers=self._proxy_headers())
        elif self._proxy is not None:
            via = Endpoint.of(self._proxy.geturl())
            connection = http.client.HTTPConnection(
                via.host, via.port, timeout=silence.SILENCE_SECONDS
            )
        elif self.endpoint.scheme == "https":
            connection = http.client.HTTPSConnection(
                host, port, timeout=silence.SILENCE_SECONDS, context=self.tls.context()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=silence.SILENCE_SECONDS)
        connection.response_class = Response
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
                self._hold(sock)
                sock.settimeout(CONNECT_SECONDS)
                sock.connect(place)
                if self._proxy is not None and self._proxy.scheme == "https":
                    sock = self._secured(sock, host)
                sock.settimeout(silence.SILENCE_SECONDS)
                return sock
            except OSError as exc:
                sock.close()
                failed = exc
        raise failed

    def _secured(self, sock: socket.socket, proxy: str) -> socket.socket:
        """The proxy's own TLS; it may be shown a password."""
        try:
            return verified(self.tls).context().wrap_socket(sock, server_hostname=proxy)
        except ssl.SSLError as exc:
            raise OSError(exc.errno, f"TLS with the proxy {proxy}: {exc.strerror}") from exc

    def _hold(self, sock: socket.socket) -> None:
        if self._lifeline is not None:
            self._lifeline.close()
        self._lifeline = sock.dup()
        if self._aborted:
            raise OSError("cut")

    def _proxy_headers(self) -> dict[str, str]:
        if self._proxy is None or self._proxy.username is None:
            return {}
        pair = f"{unquote(self._proxy.username)}:{unquote(self._proxy.password or '')}"
        return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def unreachable(url: str, exc: BaseException) -> Retryable:
    """A broken or silent connection, without the URL's query and user."""
    place = redact(url)
    if isinstance(exc, TooSlow):
        why = f"less than {silence.LEAST_RATE} bytes a second for {silence.SILENCE_SECONDS:.0f} s"
    elif isinstance(exc, TimeoutError):
        why = f"no answer for {silence.SILENCE_SECONDS:.0f} s"
    else:
        # Never the exception's own text: some quote the URL, signature included.
        detail = (exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__
        why = f"connection failed: {detail}"
    return Retryable(Reason.SOURCE_UNREACHABLE, f"{place}: {why}")
