"""The session of aiobotocore: what is read whole is bounded, and nothing is parsed for longer than it must."""

import ssl
from functools import cache
from typing import Any, Final

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from aiohttp import ClientError, ClientResponse, ClientSession
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from botocore.loaders import Loader, create_loader

from agent.errors import Stalled
from agent.sources.s3_pages import PAGE_EVENT, read_page
from agent.tls import Tls, verified
from shared.domain.reasons import Reason

# A page of 1,000 keys, each as long as may be, takes half of it. Parsed, it may take 25 times as much.
LARGEST_ANSWER: Final = 8 << 20
_REDIRECTS: Final = frozenset({301, 302, 307})


def new_session(tls: Tls) -> AioSession:
    """tls: whom every client of it trusts, those that ask for credentials too."""
    session = AioSession()
    session.set_default_client_config(AioConfig(http_session_cls=_bounded(tls)))
    session.register_component("data_loader", _loader())
    session.register(PAGE_EVENT, read_page)
    return session


@cache
def _loader() -> Loader:
    """botocore's description of S3, parsed once for all copies instead of 0.1 s for each."""
    return create_loader()


class _BoundedSession(AIOHTTPSession):  # type: ignore[misc] # aiobotocore is not typed
    """For listings and metadata; nothing that is large is read through it."""

    async def send(self, request: Any) -> AioAWSResponse:
        """Raises Stalled for an answer of more than `LARGEST_ANSWER`."""
        request.stream_output = True
        response = await super().send(request)
        if response.status_code in _REDIRECTS and request.method == "HEAD":
            _check_region(response)
        body = bytearray()
        try:
            async for chunk in response.raw.content.iter_chunked(1 << 18):
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    response.raw.close()
                    raise Stalled(
                        Reason.INVALID_SOURCE,
                        f"the endpoint sends an answer of more than {LARGEST_ANSWER >> 20} MiB",
                    )
        except TimeoutError as exc:
            raise ReadTimeoutError(endpoint_url=request.url, error=exc) from exc
        except ClientError as exc:
            raise ConnectionClosedError(
                error=exc, request=request, endpoint_url=request.url
            ) from exc
        return AioAWSResponse(
            response.url, response.status_code, response.headers, _Body(bytes(body))
        )

    async def _get_session(self, proxy_url: str | None) -> "_Direct":
        return _Direct(await super()._get_session(proxy_url))


def _bounded(tls: Tls) -> type[_BoundedSession]:
    """botocore by itself trusts a bundle of its own, and another one instead of that."""

    class Session(_BoundedSession):
        def _build_verify_context(self) -> ssl.SSLContext:
            # Only the bucket's own client is told not to look.
            return (verified(tls) if self._verify else tls).context()

        def _setup_proxy_ssl_context(self, proxy_url: str) -> ssl.SSLContext:
            return verified(tls).context()

    return Session


class _Direct:
    """Follows no redirect, as botocore's own session does not: nobody would check where it leads."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def request(self, method: str, **arguments: Any) -> ClientResponse:
        return await self._session.request(method, allow_redirects=False, **arguments)


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self) -> bytes:
        return self._content


def _check_region(response: AioAWSResponse) -> None:
    """botocore asks for a bucket's region by HEAD, and when that is redirected asks again, without an end."""
    if "x-amz-bucket-region" not in response.headers:
        response.raw.close()
        raise Stalled(
            Reason.INVALID_SOURCE, "the endpoint redirects elsewhere without naming a region"
        )
