"""The HTTP client below huggingface_hub: time limits, guarded addresses, tokens for their own host only, custom CAs."""

import contextvars
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpcore2
import httpx2
from huggingface_hub import set_client_factory

from agent.errors import Retryable, Stalled
from agent.policy import Endpoint, SourcePolicy
from agent.sources.addresses import check_host
from agent.tls import Tls, verified
from shared.domain.reasons import Reason

# The library's own default is to wait for ever.
_TIMEOUT = {"connect": 10.0, "read": 30.0, "write": 30.0, "pool": 10.0}
# A page of 1,000 files is about 300 KiB.
_LARGEST_ANSWER = 16 << 20
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf the current thread asks."""

    policy: SourcePolicy
    endpoint: Endpoint
    tls: Tls


_caller: contextvars.ContextVar[Caller] = contextvars.ContextVar("hub caller")
_until: contextvars.ContextVar[float] = contextvars.ContextVar("hub time")


def on_behalf(caller: Caller, seconds: float, work: Callable[[], _T]) -> _T:
    """Run `work`, whose requests through huggingface_hub are then checked and sent as `caller` may, for so long."""
    context = contextvars.copy_context()
    context.run(_caller.set, caller)
    context.run(_until.set, time.monotonic() + seconds)
    return context.run(work)


class _Guarded(httpx2.BaseTransport):
    """One inner transport per TLS setting and proxy; each request, redirects included, passes here."""

    def __init__(self) -> None:
        self._inner: dict[tuple[Tls, str | None], httpx2.HTTPTransport] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        caller = _caller.get()
        url = str(request.url)
        here = Endpoint.of(url)
        proxy = caller.policy.proxy(url)
        if proxy is None:
            check_host(caller.policy, here.host, here.port)
        else:
            caller.policy.check_literal(here.host)
        if here != caller.endpoint:
            if caller.endpoint.scheme == "https" and here.scheme == "http":
                raise Stalled(
                    Reason.SOURCE_NOT_ALLOWED,
                    f"the Hub redirects from https to unprotected {here.host}",
                )
            request.headers.pop("authorization", None)
        request.extensions = {**request.extensions, "timeout": _TIMEOUT}
        # What is unpacked is not counted.
        request.headers["accept-encoding"] = "identity"
        response = self._transport(caller.tls, proxy).handle_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise Retryable(Reason.SOURCE_ERROR, "the Hub sends its answer encoded, unasked")
        response.stream = _Bounded(response.stream)
        return response

    def close(self) -> None:
        for transport in self._inner.values():
            transport.close()

    def _transport(self, tls: Tls, proxy: str | None) -> httpx2.HTTPTransport:
        with self._lock:
            key = (tls, proxy)
            if key not in self._inner:
                inner = httpx2.HTTPTransport(verify=tls.context(), proxy=_proxy(proxy, tls))
                # httpx has no public name for it.
                inner._pool._network_backend = _Network(checked=proxy is None)
                self._inner[key] = inner
            return self._inner[key]


def _proxy(url: str | None, tls: Tls) -> httpx2.Proxy | None:
    if url is None:
        return None
    return httpx2.Proxy(
        url, ssl_context=verified(tls).context() if url.startswith("https:") else None
    )


class _Network(httpcore2.SyncBackend):
    """Connects to the very addresses that were checked, for a moment later a name may mean others; within the caller's time.

    checked: not for proxies, whose addresses are the admin's choice.
    """

    def __init__(self, *, checked: bool) -> None:
        self._checked = checked

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        policy = _caller.get().policy
        failed: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in check_host(policy, host, port) if self._checked else [host]:
            try:
                stream = super().connect_tcp(
                    address, port, _left(timeout), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as exc:
                failed = exc
            else:
                return _Stream(stream)
        raise failed


class _Stream(httpcore2.NetworkStream):
    """A peer that sends a byte now and then keeps nobody longer than the caller has time."""

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left(timeout: float | None) -> float:
    left = _until.get() - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the caller has no more time")
    return left if timeout is None else min(left, timeout)


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream | httpx2.AsyncByteStream) -> None:
        if not isinstance(inner, httpx2.SyncByteStream):
            raise TypeError("the Hub's client is synchronous")
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        count = 0
        for chunk in self._inner:
            count += len(chunk)
            if count > _LARGEST_ANSWER:
                raise Stalled(
                    Reason.INVALID_SOURCE,
                    f"the Hub sends an answer of more than {_LARGEST_ANSWER >> 20} MiB",
                )
            yield chunk

    def close(self) -> None:
        self._inner.close()


def _client() -> httpx2.Client:
    return httpx2.Client(transport=_Guarded(), follow_redirects=True)


set_client_factory(_client)
