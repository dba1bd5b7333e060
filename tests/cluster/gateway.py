"""Between a program and the API server: passes on, counts, and fails as told."""

import asyncio
import base64
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

from tests.support.controlplane import ControlPlane
from tests.support.processes import free_port

_HOPS = frozenset({"host", "connection", "transfer-encoding", "content-length", "content-encoding"})
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class Passage:
    """One request. at: `time.monotonic()` when it came; passed: whether the API server saw it."""

    at: float
    method: str
    path: str
    passed: bool

    @property
    def decides(self) -> bool:
        """A write other than a sign of life or an event."""
        return self.method in WRITES and not self.path.endswith(("/events", "/leases"))


class Gateway:
    """`answer`: None passes on, a status is the answer to everything, or to the kinds in `only`; `cut` closes every connection,
    also new ones. After `silence` watches of these kinds that are under way stay open and bring nothing more; new ones do.
    """

    def __init__(self, control_plane: ControlPlane) -> None:
        self.answer: int | None = None
        self.only: tuple[str, ...] = ()
        self.passages: list[Passage] = []
        self.port = free_port()
        self._plane = control_plane
        self._cut = False
        self._silenced: dict[str, float] = {}
        self._transports: set[asyncio.BaseTransport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def cut(self, cut: bool = True) -> None:
        self._do(self._set_cut(cut))

    def silence(self, *plurals: str) -> None:
        self._silenced.update(dict.fromkeys(plurals, time.monotonic()))

    def lead_through(self, kubeconfig: Path, copy: Path) -> Path:
        """The same identity, through here."""
        config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self.port}"}
        copy.touch(mode=0o600)
        copy.write_text(yaml.safe_dump(config))
        return copy

    def since(self, at: float) -> list[Passage]:
        return [passage for passage in self.passages if passage.at >= at]

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self) -> None:
        config = yaml.safe_load(self._plane.admin_kubeconfig.read_text())
        authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
        context = ssl.create_default_context(cadata=_decoded(authority))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0), auto_decompress=False
        )
        application = web.Application(client_max_size=16 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _stop(self) -> None:
        await self._set_cut(True)
        await self._runner.cleanup()
        await self._session.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _set_cut(self, cut: bool) -> None:
        self._cut = cut
        for transport in list(self._transports) if cut else ():
            transport.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        answer = self.answer if not self.only or _kind(request) in self.only else None
        passes = not self._cut and answer is None
        self.passages.append(Passage(time.monotonic(), request.method, request.path, passes))
        transport = request.transport
        if self._cut or transport is None:
            return _gone(transport)
        if answer is not None:
            return web.json_response({"kind": "Status", "code": answer}, status=answer)
        self._transports.add(transport)
        try:
            return await self._pass_on(request)
        except (aiohttp.ClientError, OSError):
            return _gone(transport)
        finally:
            self._transports.discard(transport)

    def _is_silent(self, request: web.Request, began: float) -> bool:
        return "watch" in request.query and began < self._silenced.get(_kind(request), 0.0)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        began = time.monotonic()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOPS}
        async with self._session.request(
            request.method,
            self._plane.url + request.raw_path,
            headers=headers,
            data=await request.read(),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            kept = {
                k: v
                for k, v in answer.headers.items()
                if k.lower() not in _HOPS - {"content-encoding"}
            }
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                if not self._is_silent(request, began):
                    await response.write(chunk)
            await response.write_eof()
            return response


def _kind(request: web.Request) -> str:
    """In the plural, of a list or watch."""
    return request.path.rpartition("/")[2]


def _gone(transport: asyncio.BaseTransport | None) -> web.Response:
    """The client sees its connection close; the answer reaches nobody."""
    if transport is not None:
        transport.close()
    return web.Response(status=502)


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
