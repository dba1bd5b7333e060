"""Worlds of any size, and the page's own server for them, in the test's process."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from controller import routes
from controller.ui.sight import Sight
from controller.ui.site import Site
from controller.ui.timeline import Timeline
from controller.world import World
from shared.domain import parse
from shared.domain.storage_key import storage_key
from shared.domain.views import WorkView
from tests.unit.controller import builders

GIB = builders.GIB


def cache_name(number: int) -> str:
    return f"model-{number:03}"


def node_name(number: int) -> str:
    return f"node-{number:04}"


def uri(key: str) -> str:
    return f"s3://models/{key}"


def fleet(caches: int, nodes: int) -> World:
    """Everything is complete."""
    world = World()
    routes.group_changed(world, "gpu", parse.group(builders.group(limit="1000Ti")))
    for number in range(nodes):
        name = node_name(number)
        routes.node_changed(world, name, parse.node(builders.node(name)))
    keys = [cache_name(number) for number in range(caches)]
    for key in keys:
        routes.cache_changed(world, key, parse.cache(builders.cache(key, uri=uri(key))))
    for number in range(nodes):
        tell(world, node_name(number), keys)
    return world


def tell(world: World, node: str, keys: Iterable[str], **different: dict[str, Any]) -> None:
    """The node's agent reports; `different`: by key, what is not as with a complete copy (with _ for -)."""
    routes.work_changed(world, node, work(world, node, keys, **different))


def work(world: World, node: str, keys: Iterable[str], **different: dict[str, Any]) -> WorkView:
    before = world.works.get(node)
    lines = [
        {"modelName": key, "sourceModelUri": uri(key), "modelSize": "1Gi", "nodeGroup": "gpu"}
        for key in keys
    ]
    version = int(before.resource_version) + 1 if before else 1
    models = [
        {
            "key": line["modelName"],
            "storageKey": storage_key(line["sourceModelUri"]),
            "state": "ModelDownloaded",
            "reason": "Published",
            "bytesTotal": GIB,
            "bytesDone": GIB,
            "completionTime": "2026-01-01T00:00:00Z",
            **different.get(line["modelName"].replace("-", "_"), {}),
        }
        for line in lines
    ]
    taken = sum(int(model["bytesDone"] or 0) for model in models)
    return parse.work(
        {
            "metadata": {
                "name": node,
                "uid": f"uid-{node}",
                "generation": 1,
                "resourceVersion": str(version),
            },
            "spec": {"localModels": lines},
            "status": {
                "observedGeneration": 1,
                "models": models,
                "storage": {
                    "capacityBytes": 4 * taken,
                    "availableBytes": 2 * taken,
                    "keptFreeBytes": taken // 5,
                    "usedBytes": taken,
                },
            },
        }
    )


@contextlib.asynccontextmanager
async def served(
    world: World, *, waiting: str | None = None, patience: float = 10
) -> AsyncIterator[str]:
    """URL of the page of a leading replica that knows this world."""
    site = Site(
        Sight(world, leading=lambda: True),
        Timeline(lambda: datetime.now(UTC), known=world.caches.__contains__),
        head=lambda: {"replica": "test", "leading": True, "problems": []},
        waiting=lambda: waiting,
        patience=patience,
    )
    app = web.Application()
    app.add_routes(site.routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    # What the kernel takes for a browser that does not read would hide for long that it does not.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    await web.SockSite(runner, listening).start()
    feed = asyncio.create_task(site.run(), name="page")
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/ui/"
    finally:
        feed.cancel()
        await asyncio.gather(feed, return_exceptions=True)
        await runner.cleanup()
