"""One request to the API server at a time: limits, credentials, repetition, and the lines of a watch."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

import aiohttp
import orjson

from shared.domain.no_proxy import bypasses
from shared.kube.errors import (
    ApiError,
    Fenced,
    ServerUnavailable,
    TooManyRequests,
    Unreachable,
    from_status,
)
from shared.kube.library import ConfigException, Configuration, RESTClientObject
from shared.kube.metrics import KubeMetrics
from shared.kube.ratelimit import TokenBucket
from shared.kube.resource import Resource

Wire = dict[str, Any]
Wires = list[Wire]

REQUEST_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
# The server sends a bookmark about once a minute: a stream silent for two is dead.
WATCH_SILENCE_SECONDS: Final = 130.0
# etcd refuses objects over 1.5 MiB; an event is one object and its wrapping.
_MAX_LINE_BYTES: Final = 16 << 20
_READ_BUFFER: Final = 2 << 20
_TRIES: Final = 4
_MAX_RETRY_AFTER_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """`verb` is how metrics call it. repeatable: whether doing it twice is the same as doing it once."""

    method: str
    verb: str
    resource: Resource
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = "application/json"
    accept: str = "application/json"
    repeatable: bool = False


class Transport:
    """Raises `shared.kube.errors` only; every request has a time limit.

    Requests that the server refused unprocessed (429) are repeated after the time it asks for; so are repeatable ones after
    5xx answers and lost connections.
    """

    def __init__(
        self, configuration: Configuration, *, agent: str, bucket: TokenBucket, metrics: KubeMetrics
    ) -> None:
        self._configuration = configuration
        self._agent = agent
        self._bucket = bucket
        self._metrics = metrics
        self._rest = RESTClientObject(configuration)
        # The library's own session looks into the environment and into ~/.netrc for every single request, in a thread.
        self._session = aiohttp.ClientSession(
            connector=self._rest.pool_manager.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BUFFER,
        )
        # It would repeat what is lost with a connection by itself: past the fence, and twice as often in an outage.
        self._session._retry_connection = False
        self._proxy = configuration.proxy or _environment_proxy(str(configuration.host))
        self.fence: Callable[[], float] | None = None
        """Seconds for which writes may still be sent."""
        self.watch_silence = WATCH_SILENCE_SECONDS
        """Seconds after which a watch on which nothing comes is given up."""

    async def exchange(self, request: Request) -> Wire:
        """The answer's JSON."""
        data = None if request.body is None else orjson.dumps(request.body)
        attempt = 1
        while True:
            try:
                return await self._once(request, data)
            except TooManyRequests as exc:
                failed: ApiError = exc
            except (Unreachable, ServerUnavailable) as exc:
                if not request.repeatable:
                    raise
                failed = exc
            wait = _wait_before_retry(attempt, failed.retry_after)
            if attempt == _TRIES or wait > _MAX_RETRY_AFTER_SECONDS:
                raise failed
            attempt += 1
            await asyncio.sleep(wait)

    async def events(self, request: Request) -> AsyncGenerator[tuple[str, Wire], None]:
        """Events of a watch (type, object) until the server ends the stream; an ERROR event is raised."""
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=self.watch_silence)
        async with self._response(request, None, timeout) as response:
            if response.status != 200:
                raise await _error(response)
            try:
                async for line in _lines(response.content):
                    yield _event(line)
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                raise Unreachable(f"the watch broke: {_text(exc)}") from exc

    async def close(self) -> None:
        await self._session.close()
        await self._rest.close()

    async def _once(self, request: Request, data: bytes | None) -> Wire:
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        async with self._response(request, data, timeout) as response:
            if response.status >= 300:
                raise await _error(response)
            try:
                raw = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                raise Unreachable(f"the answer broke off: {_text(exc)}") from exc
        try:
            answer: Wire = orjson.loads(raw)
        except orjson.JSONDecodeError as exc:
            raise Unreachable(f"the answer is not the API server's: {_text(exc)}") from exc
        return answer

    @asynccontextmanager
    async def _response(
        self, request: Request, data: bytes | None, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        waited = await self._bucket.take()
        if waited:
            self._metrics.throttled.inc(waited)
        headers = {"Accept": request.accept, "User-Agent": self._agent}
        if data is not None:
            headers["Content-Type"] = request.content_type
        try:
            for setting in (await self._configuration.auth_settings()).values():
                headers[setting["key"]] = setting["value"]
        except (ConfigException, OSError) as exc:
            raise Unreachable(f"no usable credentials: {exc}") from exc
        timeout = self._fenced(request, timeout)
        code = "0"
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            response = await self._session.request(
                request.method,
                str(self._configuration.host).rstrip("/") + request.path,
                params=request.params,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                server_hostname=self._configuration.tls_server_name,
                proxy=self._proxy,
            )
            code = str(response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise Unreachable(f"the API server cannot be reached: {_text(exc)}") from exc
        finally:
            self._metrics.requests.labels(
                code, request.method, request.verb, request.resource.plural
            ).inc()
            self._metrics.latency.labels(request.verb).observe(loop.time() - started)
        try:
            yield response
        finally:
            _abandon(response)

    def _fenced(self, request: Request, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientTimeout:
        """A write is given no longer than we may write: asked last of all, when nothing is waited for any more."""
        if request.method == "GET" or self.fence is None:
            return timeout
        left = self.fence()
        if left <= 0:
            raise Fenced("this replica does not lead, so it writes nothing")
        return aiohttp.ClientTimeout(
            total=min(timeout.total or left, left), sock_connect=timeout.sock_connect
        )


def _abandon(response: aiohttp.ClientResponse) -> None:
    """What was not read to its end is cut off: a polite end of TLS would outlive the client that waits for nobody."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


def _environment_proxy(url: str) -> str | None:
    """What HTTP_PROXY, HTTPS_PROXY and NO_PROXY say of the API server."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    proxies = getproxies_environment()
    if not parts.hostname or bypasses(proxies.get("no", ""), parts.hostname, port):
        return None
    return proxies.get(parts.scheme)


def _wait_before_retry(attempt: int, asked: float | None) -> float:
    return asked if asked is not None else random.uniform(0.1, 0.5) * 2**attempt  # noqa: S311  # spread, not secrecy


def _text(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


async def _error(response: aiohttp.ClientResponse) -> ApiError:
    try:
        body = orjson.loads(await response.read())
    except (orjson.JSONDecodeError, aiohttp.ClientError, TimeoutError, OSError):
        body = None
    header = response.headers.get("Retry-After", "")
    return from_status(
        response.status, body, retry_after=float(header) if header.isdecimal() else None
    )


def _event(line: bytes) -> tuple[str, Wire]:
    """One line of a watch; raises what an ERROR event says."""
    try:
        event = orjson.loads(line)
        kind, wire = str(event["type"]), event["object"]
        code = int(wire.get("code") or 500) if kind == "ERROR" else 0
        if not code:
            _ = wire["metadata"]["resourceVersion"]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Unreachable(f"the watch sent something that is no event: {_text(exc)}") from exc
    if code:
        raise from_status(code, wire)
    return kind, wire


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of a watch stream, whatever their length (StreamReader.readline stops at 64 KiB)."""
    pending = bytearray()
    async for chunk in stream.iter_any():
        searched = len(pending)
        pending += chunk
        while (end := pending.find(b"\n", searched)) >= 0:
            line = bytes(pending[:end])
            del pending[: end + 1]
            searched = 0
            if line.strip():
                yield line
        if len(pending) > _MAX_LINE_BYTES:
            raise Unreachable(f"the watch sent a line over {_MAX_LINE_BYTES} bytes")
