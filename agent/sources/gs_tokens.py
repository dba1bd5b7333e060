"""google-auth's requests by our own client: no address that the policy refuses, this source's authorities, proxies."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.auth import transport

from agent.sources.web import Web

_ANY = frozenset({200, *range(400, 600)})


class TokenRequests(transport.Request):
    """For threads. loop: where `web` lives."""

    def __init__(self, web: Web, what: str, loop: asyncio.AbstractEventLoop) -> None:
        self._web = web
        self._what = f"{what}: the token service"
        self._loop = loop

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> "TokenAnswer":
        """Refusals too: google-auth knows what they mean. Raises FetchError."""
        asked = self._web.request(
            method, url, what=self._what, headers=headers, accept=_ANY, body=body
        )
        found = asyncio.run_coroutine_threadsafe(asked, self._loop).result()
        return TokenAnswer(found.status, dict(found.headers), found.body)


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """As google-auth reads it."""

    status: int
    headers: Mapping[str, str]
    data: bytes
