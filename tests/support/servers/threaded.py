"""aiohttp applications in a thread with an event loop of its own, so that blocking tests and programs can use them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler

from tests.support.processes import LOOPBACK

_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Seen:
    """A request as it arrived. `query` and `headers` as the client sent them; header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Fault:
    """Answered instead of the real thing, for paths that begin with `prefix`. times: None = until it is taken away."""

    status: int
    prefix: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    times: int | None = None


class ThreadedApp:
    """One application on one free port of `address`. `seen` grows with each request; `fault` may be set from any thread."""

    def __init__(self, name: str, *, address: str = LOOPBACK) -> None:
        self._address = address
        self.app = web.Application(middlewares=[self._observe])
        self.seen: list[Seen] = []
        self.fault: Fault | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._runner: web.AppRunner | None = None
        self.url = ""

    def start(self) -> None:
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)

    def stop(self) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(_STOP_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_SECONDS)
        if not self._loop.is_running():
            self._loop.close()

    async def _listen(self) -> str:
        self._runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._address, 0)
        await site.start()
        return f"http://{self._address}:{self._runner.addresses[0][1]}"

    async def _end(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _observe(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.seen.append(
            Seen(
                request.method,
                request.rel_url.raw_path,
                request.rel_url.raw_query_string,
                {name.lower(): value for name, value in request.headers.items()},
            )
        )
        fault = self.fault
        if fault is not None and request.path.startswith(fault.prefix):
            if fault.times is not None:
                left = fault.times - 1
                self.fault = (
                    Fault(fault.status, fault.prefix, fault.headers, fault.body, left)
                    if left
                    else None
                )
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        return await handler(request)
