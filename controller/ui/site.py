"""The page over HTTP: its files, its stream of events, and what its panel asks for. GET only."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Final

import orjson
from aiohttp import web

from controller.ui.details import cache_page, node_page
from controller.ui.feed import Feed
from controller.ui.sight import Sight
from controller.ui.timeline import Timeline
from shared.kube.ratelimit import TokenBucket

_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ALIVE_SECONDS: Final = (
    5.0  # a browser that is gone is noticed, and proxies close what is silent for a minute
)
_WRITE_SECONDS: Final = 10.0  # a browser that takes nothing for so long is cut
# A panel's question takes 10 ms at 1,000 nodes, so this is 5 % of a core; a panel that is put off keeps what it shows. At once: all
# browsers that come back after a restart.
_ASKS_PER_SECOND: Final = 5.0
_ASKS_AT_ONCE: Final = 40

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """`waiting`: why nothing can be shown yet, None once all is known. `patience`: seconds that a browser may take nothing."""

    def __init__(
        self,
        sight: Sight,
        timeline: Timeline,
        *,
        head: Callable[[], dict[str, Any]],
        waiting: Callable[[], str | None],
        patience: float = _WRITE_SECONDS,
    ) -> None:
        self._sight = sight
        self._timeline = timeline
        self._waiting = waiting
        self._patience = patience
        self._asks = TokenBucket(_ASKS_PER_SECOND, _ASKS_AT_ONCE)
        self._feed = Feed(sight, head)
        self.run = self._feed.run

    def routes(self) -> list[web.RouteDef]:
        files = _files()
        pages = [
            web.get("/ui", _moved),
            web.get("/ui/", _serve(files["index.html"], ".html")),
            web.get("/ui/events", self._events, allow_head=False),
            web.get("/ui/cache", self._cache),
            web.get("/ui/node", self._node),
        ]
        return pages + [
            web.get(f"/ui/{name}", _serve(body, name[name.rindex(".") :]))
            for name, body in files.items()
            if name != "index.html"
        ]

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self._admit()
        subscriber = await self._feed.subscribe()
        if subscriber is None:
            raise _busy("too many browsers watch already")
        try:
            response = web.StreamResponse(headers={**_HEADERS, "Cache-Control": "no-store"})
            response.content_type = "text/event-stream"
            response.headers["X-Accel-Buffering"] = "no"
            async with asyncio.timeout(self._patience):
                await response.prepare(request)
            while True:
                try:
                    async with asyncio.timeout(_ALIVE_SECONDS):
                        message = await subscriber.next()
                except TimeoutError:
                    message = b"event: alive\ndata:\n\n"
                if message is None:
                    break
                async with asyncio.timeout(self._patience):
                    await response.write(message)
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._feed.leave(subscriber)
        return response

    async def _cache(self, request: web.Request) -> web.Response:
        self._admit()
        name = request.query.get("name", "")
        return _answer(cache_page(self._sight.now(), name, self._timeline.of(name)))

    async def _node(self, request: web.Request) -> web.Response:
        self._admit()
        return _answer(node_page(self._sight.now(), request.query.get("name", "")))

    def _admit(self) -> None:
        waiting = self._waiting()
        if waiting is not None:
            raise _busy(waiting)
        if not self._asks.try_take(asyncio.get_running_loop().time()):
            raise web.HTTPTooManyRequests(text="asked too often\n", headers=_HEADERS)


def _busy(why: str) -> web.HTTPServiceUnavailable:
    return web.HTTPServiceUnavailable(text=f"{why}\n", headers={**_HEADERS, "Retry-After": "5"})


def _answer(page: dict[str, Any] | None) -> web.Response:
    if page is None:
        raise web.HTTPNotFound(text="there is none of this name\n", headers=_HEADERS)
    return web.Response(
        body=orjson.dumps(page),
        content_type="application/json",
        headers={**_HEADERS, "Cache-Control": "no-store"},
    )


async def _moved(_: web.Request) -> web.StreamResponse:
    """Relative, so that it holds behind a proxy that adds a path of its own."""
    raise web.HTTPPermanentRedirect("ui/", headers=_HEADERS)


def _serve(body: bytes, suffix: str) -> Handler:
    async def serve(_: web.Request) -> web.StreamResponse:
        return web.Response(
            body=body,
            content_type=_TYPES[suffix],
            charset="utf-8",
            headers={**_HEADERS, "Cache-Control": "no-cache"},
        )

    return serve


def _files() -> dict[str, bytes]:
    """All of them, a few KB, read once."""
    folder = resources.files("controller.ui") / "assets"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
