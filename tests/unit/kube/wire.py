"""The API server's wire protocol, answered from a script: each request takes the next answer."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from aiohttp import web

from shared.kube.resource import Resource
from tests.unit.kube.virtual_time import PATIENCE

Wire = dict[str, Any]

THINGS = Resource("things.example.com", "v1", "things", "Thing", True)


@dataclass(frozen=True)
class Asked:
    """One request. at: on the loop's clock."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    at: float

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "1"

    @property
    def since(self) -> str | None:
        """Where a watch begins; None = this is no watch."""
        return self.query["resourceVersion"] if self.is_watch else None


@dataclass(frozen=True)
class Answer:
    """A whole answer; `body` goes out as JSON unless it is bytes."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """A watch: its lines, and then the end, a `cut` connection, or `silence`."""

    lines: tuple[bytes, ...] = ()
    then: str = "end"


@dataclass(frozen=True)
class Cut:
    """No answer: the connection breaks."""


@dataclass(frozen=True)
class Silence:
    """No answer: the connection stays open."""


Step = Answer | Stream | Cut | Silence
Responder = Callable[[Asked], Step]


class ApiServer:
    """`async with`. Answers `script` step by step, then asks `otherwise`; `asked` is what came."""

    def __init__(self) -> None:
        self.script: deque[Step] = deque()
        self.otherwise: Responder = lambda _: Stream(then="silence")
        self.asked: list[Asked] = []
        self._arrived = asyncio.Condition()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    def say(self, *steps: Step) -> None:
        self.script.extend(steps)

    async def until(self, requests: int) -> None:
        """Until so many requests have come."""
        async with asyncio.timeout(PATIENCE), self._arrived:
            await self._arrived.wait_for(lambda: len(self.asked) >= requests)

    @property
    def watches(self) -> list[str]:
        """Versions at which watches began."""
        return [asked.since for asked in self.asked if asked.since is not None]

    @property
    def lists(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "GET" and not asked.is_watch]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        asked = Asked(
            request.method,
            request.path,
            dict(request.query),
            dict(request.headers),
            json.loads(text) if text else None,
            asyncio.get_running_loop().time(),
        )
        step = self.script.popleft() if self.script else self.otherwise(asked)
        async with self._arrived:
            self.asked.append(asked)
            self._arrived.notify_all()
        match step:
            case Answer():
                raw = step.body if isinstance(step.body, bytes) else json.dumps(step.body).encode()
                return web.Response(status=step.status, body=raw, headers=step.headers)
            case Stream():
                return await self._stream(request, step)
            case Cut():
                return _cut(request)
            case Silence():
                await asyncio.Event().wait()
                raise AssertionError("woken")

    async def _stream(self, request: web.Request, step: Stream) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for line in step.lines:
            await response.write(line)
        if step.then == "silence":
            await asyncio.Event().wait()
        if step.then == "cut":
            return _cut(request)
        await response.write_eof()
        return response


def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def thing(name: str, version: int | str, **fields: Any) -> Wire:
    metadata = {"name": name, "namespace": "default", "resourceVersion": str(version)}
    return {"metadata": metadata, **fields}


def listing(*items: Wire, version: int | str, more: str = "") -> Answer:
    """A page of a list; `more`: the token of the next one."""
    metadata = {"resourceVersion": str(version), **({"continue": more} if more else {})}
    return Answer(body={"metadata": metadata, "items": list(items)})


def event(kind: str, item: Wire) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def bookmark(version: int | str) -> bytes:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def status(code: int, reason: str = "", message: str = "because") -> Wire:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def refusal(code: int, reason: str = "", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(code, status(code, reason), named)


def write_kubeconfig(path: Path, url: str) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "wire", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
        "contexts": [{"name": "wire", "context": {"cluster": "wire", "user": "me"}}],
        "current-context": "wire",
    }
    path.write_text(yaml.safe_dump(config))
    return path
