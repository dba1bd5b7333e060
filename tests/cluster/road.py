"""The way from one client to the API server, which a test may close and open."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Self

import yaml

from shared.kube.client import KubeClient
from shared.kube.metrics import KubeMetrics
from shared.kube.transport import WATCH_SILENCE_SECONDS
from tests.support.controlplane import ControlPlane


class Road:
    """`async with`. Closed, it swallows what is under way and what comes, as a lost network does; `cut` breaks connections."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._travel, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cut()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def client(
        self,
        manager: str,
        *,
        of: Path | None = None,
        watch_silence: float = WATCH_SILENCE_SECONDS,
        metrics: KubeMetrics | None = None,
    ) -> KubeClient:
        """Over this road, as whom the kubeconfig `of` names; as admin by default."""
        config = yaml.safe_load((of or self._control_plane.admin_kubeconfig).read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self._port}"
        path = self._control_plane.folder / f"{manager}.{self._port}.road.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return await KubeClient.connect(
            kubeconfig=path,
            manager=manager,
            qps=1000,
            burst=1000,
            watch_silence=watch_silence,
            metrics=metrics,
        )

    async def _travel(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(back)
        try:
            there, forth = await asyncio.open_connection("127.0.0.1", self._control_plane.port)
            self._writers.add(forth)
            await asyncio.gather(self._carry(here, forth), self._carry(there, back))
        except (OSError, asyncio.CancelledError):
            back.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(1 << 16):
                await self._open.wait()
                target.write(piece)
                await target.drain()
        target.close()
