"""The HTTP session below aiobotocore: what is read whole is bounded."""

from typing import Any, Final

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp import ClientError
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from agent.errors import Stalled
from shared.domain.reasons import Reason

# A page of 1,000 keys, each as long as may be, takes half of it. Parsed, it may take 25 times as much.
LARGEST_ANSWER: Final = 8 << 20


class BoundedSession(AIOHTTPSession):  # type: ignore[misc] # aiobotocore is not typed
    """For listings and metadata; nothing that is large is read through it."""

    async def send(self, request: Any) -> AioAWSResponse:
        """Raises Stalled for an answer of more than `LARGEST_ANSWER`."""
        request.stream_output = True
        response = await super().send(request)
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


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self) -> bytes:
        return self._content
