"""A small HTTP client for listing and metadata: guarded addresses, careful redirects, bounded answers, typed failures."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urljoin, urlsplit

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from agent.errors import FetchError, Stalled
from agent.headers import retry_after
from agent.policy import Endpoint, SourcePolicy
from agent.sources.addresses import GuardedResolver
from agent.sources.failures import already_told, http_failure, unreachable
from agent.tls import SYSTEM_TLS, Tls, verified
from shared.domain.reasons import Reason
from shared.domain.uri import redact

# Metadata requests are small; a server that needs longer is asked again later.
_TIMEOUT = aiohttp.ClientTimeout(sock_connect=10, sock_read=30)
_SECONDS = 60.0
_MOST_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# A page of 5,000 objects is about 5 MiB. Parsed, it may take 25 times as much.
LARGEST_BODY = 16 << 20
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})


@dataclass(frozen=True, slots=True)
class Answer:
    """`url`: the one that answered in the end, after redirects."""

    status: int
    headers: CIMultiDictProxy[str]
    url: str
    body: bytes = field(default=b"", repr=False)


class Web:
    """Sends no credentials but those given with a request, and those only to the origin they were given for."""

    def __init__(self, policy: SourcePolicy, tls: Tls = SYSTEM_TLS) -> None:
        self._policy = policy
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Web:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        what: str,
        headers: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset({200}),
        read: bool = True,
        body: bytes | None = None,
        most: int = LARGEST_BODY,
        secret: frozenset[str] = frozenset(),
        seconds: float | None = None,
    ) -> Answer:
        """The answer, when its status is in `accept`; else raises the `FetchError` for it. `what`: for its message.

        read: whether the answer's body is wanted. most: how many bytes of it. body: what is sent; such a request follows no redirect to another place.
        secret: names in lower case of headers that stay with the origin as well. seconds: for an answer that takes its time.
        """
        origin = _endpoint(url, what)
        for _ in range(_MOST_REDIRECTS):
            here = _endpoint(url, what)
            self._policy.check_literal(here.host)
            sent = {
                name: value
                for name, value in (headers or {}).items()
                if here == origin or name.lower() not in _SECRET | secret
            }
            try:
                async with asyncio.timeout(seconds or _SECONDS):
                    answer, target = await self._once(
                        method, url, sent, what, accept, most if read else 0, body
                    )
            except TimeoutError as exc:
                raise _translate(exc, what, here.host) from exc
            if target is None:
                return answer
            url = _redirected(url, target, what)
            if body is not None and _endpoint(url, what) != origin:
                raise Stalled(
                    Reason.SOURCE_NOT_ALLOWED, f"{what} redirects what is sent to another place"
                )
        raise Stalled(Reason.INVALID_SOURCE, f"{what} redirects more than {_MOST_REDIRECTS} times")

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        what: str,
        accept: frozenset[int],
        most: int,
        sent: bytes | None,
    ) -> tuple[Answer, str | None]:
        """An answer, and where it redirects to."""
        session = self._open()
        try:
            async with session.request(
                method,
                URL(url, encoded=True),
                data=sent,
                headers={"Accept-Encoding": "identity", **headers},
                allow_redirects=False,
                proxy=self._policy.proxy(url),
                ssl=self._tls.context() if url.startswith("https:") else True,
            ) as response:
                target = response.headers.get("Location")
                answer = Answer(response.status, response.headers, url)
                if response.status in _REDIRECTS and target:
                    return answer, target
                if response.status not in accept:
                    after = retry_after(response.headers)
                    raise http_failure(response.status, what, after=after)
                if most:
                    body = await _body(response, what, most)
                    answer = Answer(response.status, response.headers, url, body)
                return answer, None
        except FetchError:
            raise
        except Exception as exc:
            raise _translate(exc, what, urlsplit(url).hostname or "") from exc

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = _Connector(
                self._tls,
                resolver=GuardedResolver(self._policy),
                limit=32,  # metadata requests of one source at a time
            )
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session


class _Connector(aiohttp.TCPConnector):
    """Who takes any certificate for the source has not said so of the proxy, which may be shown a password."""

    def __init__(self, tls: Tls, *, resolver: GuardedResolver, limit: int) -> None:
        super().__init__(resolver=resolver, limit=limit)
        self._proxy_tls = verified(tls)

    # aiohttp has no public name for it.
    def _update_proxy_auth_header_and_build_proxy_req(
        self, req: aiohttp.ClientRequest
    ) -> aiohttp.ClientRequest:
        asked = super()._update_proxy_auth_header_and_build_proxy_req(req)
        if asked.is_ssl():
            asked._ssl = self._proxy_tls.context()
        return asked


async def _body(response: aiohttp.ClientResponse, what: str, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 18):
        body += chunk
        if len(body) > most:
            raise Stalled(Reason.INVALID_SOURCE, f"{what}: an answer of more than {most >> 20} MiB")
    return bytes(body)


def _endpoint(url: str, what: str) -> Endpoint:
    try:
        return Endpoint.of(url)
    except ValueError:
        raise Stalled(Reason.INVALID_SOURCE, f"{what}: not a usable URL") from None


def _redirected(url: str, target: str, what: str) -> str:
    try:
        following = urljoin(url, target)
        parts = urlsplit(following)
    except ValueError:
        raise Stalled(Reason.INVALID_SOURCE, f"{what} redirects to no usable URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Stalled(Reason.INVALID_SOURCE, f"{what} redirects to something that is not HTTP")
    if url.startswith("https:") and parts.scheme == "http":
        raise Stalled(
            Reason.SOURCE_NOT_ALLOWED,
            f"{what} redirects from https to unprotected {redact(following)}",
        )
    return following


def _translate(exc: Exception, what: str, host: str) -> FetchError:
    told = already_told(exc)
    if told is not None:
        return told
    match exc:
        case aiohttp.ClientConnectorCertificateError(host=whose):
            # The proxy's, it may be.
            return unreachable(what, f"the certificate of {whose} is not trusted")
        case ssl.SSLCertVerificationError():
            return unreachable(what, f"the certificate of {host} is not trusted")
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return unreachable(what, f"TLS with {host} failed")
        case aiohttp.ClientConnectorDNSError():
            return unreachable(what, f"{host} has no address")
        case aiohttp.ClientProxyConnectionError():
            return unreachable(what, "the proxy does not answer")
        case aiohttp.ClientHttpProxyError(status=status):
            return unreachable(what, f"the proxy answered {status}")
        case aiohttp.ClientConnectorError() | OSError() if not isinstance(exc, TimeoutError):
            return unreachable(what, f"no connection to {host}")
        case TimeoutError() | asyncio.TimeoutError():
            return unreachable(what, f"{host} did not answer in time")
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError() | ValueError():
            return Stalled(Reason.INVALID_SOURCE, f"{what}: not a usable URL")
        case _:
            return unreachable(what, f"{host} broke the connection ({type(exc).__name__})")
