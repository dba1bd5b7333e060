"""The health server: /healthz, /readyz, /metrics and /debug/state."""

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from shared.ops.stacks import stacks


class HealthServer:
    """Small text answers for probes, Prometheus and people.

    live, ready: return None when all is well, else why not (503). state: a JSON-ready picture of what the process
    holds; it must not contain credentials. pages: what else is served on the port.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        registry: CollectorRegistry,
        live: Callable[[], str | None],
        ready: Callable[[], str | None],
        state: Callable[[], dict[str, Any]],
        pages: Iterable[web.RouteDef] = (),
    ) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._state = state
        app = web.Application(client_max_size=1024)
        app.router.add_get("/healthz", _check(live))
        app.router.add_get("/readyz", _check(ready))
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/debug/state", self._debug)
        app.add_routes(pages)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)

    async def start(self) -> int:
        """Listen; returns the port, which the system chose when it was given as 0."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry),  # type: ignore[no-untyped-call]
            headers={"Content-Type": CONTENT_TYPE_LATEST},
        )

    async def _debug(self, _: web.Request) -> web.Response:
        body = orjson.dumps(
            {**self._state(), **stacks()},
            default=str,
            option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS,
        )
        return web.Response(body=body, content_type="application/json")


def _check(
    problem: Callable[[], str | None],
) -> Callable[[web.Request], Any]:
    async def answer(_: web.Request) -> web.Response:
        found = problem()
        return web.Response(status=200 if found is None else 503, text=f"{found or 'ok'}\n")

    return answer
