"""What the controller costs at size: `python -m tests.bench.controller [CACHESxNODES …]`, a table on standard output.

A real etcd and kube-apiserver, the controller with its own rights, and one process of simulated agents, all on this machine.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from shared.domain import parse
from shared.domain.views import CacheView
from shared.kube.client import KubeClient
from shared.kube.informer import Informer
from shared.kube.resource import (
    LOCAL_MODEL_CACHES,
    LOCAL_MODEL_NODE_GROUPS,
    NODES,
)
from tests.support.controlplane import ControlPlane
from tests.support.fleet import MANAGER, Fleet
from tests.support.processes import Process
from tests.support.programs import Controller

GROUP = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "LocalModelNodeGroup",
    "metadata": {"name": "bench"},
    "spec": {
        "storageLimit": "1000Ti",
        "persistentVolumeSpec": {
            "local": {"path": "/models"},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "pool", "operator": "In", "values": ["bench"]}
                            ]
                        }
                    ]
                }
            },
        },
        "persistentVolumeClaimSpec": {},
    },
}
STEADY_SECONDS = 60.0
PROGRESS_SECONDS = 30.0
IGNORED = ("leases", "events")  # signs of life and events are no decisions


class Bench:
    """One size, from nothing to a restart."""

    def __init__(self, plane: ControlPlane, folder: Path, caches: int, nodes: int) -> None:
        self.plane, self.folder = plane, folder
        self.caches, self.nodes = caches, nodes
        self.controller = Controller(
            plane,
            folder / f"{caches}x{nodes}",
            settings={"status_debounce_seconds": 1, "removal_grace_seconds": 300},
        )
        self.rows: list[tuple[str, str]] = []

    async def run(self) -> None:
        self.client = await KubeClient.connect(
            kubeconfig=self.plane.admin_kubeconfig, manager=MANAGER, qps=2000, burst=2000
        )
        self.fleet = Fleet(self.client)
        self.seen: Informer[CacheView] = Informer(self.client, LOCAL_MODEL_CACHES, parse.cache)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part.run()) for part in (self.fleet, self.seen)]
                try:
                    await self._measure()
                finally:
                    for task in tasks:
                        task.cancel()
        finally:
            self.controller.stop()
            await self.client.close()

    async def _measure(self) -> None:
        caches, nodes = self.caches, self.nodes
        await self.client.create(LOCAL_MODEL_NODE_GROUPS, GROUP)
        await _each(range(nodes), self._add_node)
        self._row(
            "nodes created", f"CPU so far: kube-apiserver {self._cpu(self.plane.apiserver):.0f} s"
        )
        await asyncio.to_thread(self.controller.start_ready)
        started = time.monotonic()
        await _each(range(caches), self._add_cache)
        await self._until(self._placed)
        placed = time.monotonic() - started
        writes = self._writes()
        # The fleet runs in this process.
        self._row("all work lists complete", f"{placed:.1f} s; CPU {self._cpus()}")
        share = sum(writes.values()) / (nodes + 2 * caches)
        self._row(
            "writes until then",
            f"{sum(writes.values())} = {share:.2f} x (nodes + 2 caches)  {dict(writes)}",
        )
        await self._until(self._ready)
        self._row("all caches Ready", f"{time.monotonic() - started:.1f} s, {self._memory()}")
        await asyncio.sleep(10)
        before, cpu = self._writes(), self._cpu()
        await asyncio.sleep(STEADY_SECONDS)
        self._row(
            "writes in a steady minute",
            f"{_difference(self._writes(), before)}, {self._cpu() - cpu:.1f} s CPU",
        )
        await self._step("one new cache", lambda: self._add_cache(caches), caches + 1, nodes)
        await self._step("one new node", lambda: self._add_node(nodes), caches + 1, nodes + 1)
        before = self._writes()
        for condition in ("False", "True"):
            await self._set_ready(nodes, condition)
            await asyncio.sleep(8)
        self._row("one node flaps", f"writes {_difference(self._writes(), before)}")
        await self._download()
        self.controller.stop()
        started = time.monotonic()
        await asyncio.to_thread(self.controller.start_ready)
        ready = time.monotonic() - started
        await asyncio.sleep(10)
        self._row(
            "restart",
            f"ready in {ready:.1f} s, {sum(self._writes().values())} writes, {self._memory()}",
        )

    async def _download(self) -> None:
        """Everything downloads; at last everything is there again."""
        self.fleet.behaviour.progress_seconds = PROGRESS_SECONDS
        await asyncio.sleep(2 * PROGRESS_SECONDS)
        before, used, answers = self._writes(), self._cpu(), self.fleet.writes
        await asyncio.sleep(STEADY_SECONDS)
        statuses = _difference(self._writes(), before).get("apply localmodelcaches", 0)
        rate = statuses / self.caches / (STEADY_SECONDS / 5)
        self._row(
            "a minute of downloads",
            f"{self.fleet.writes - answers} answers of agents; {statuses} cache statuses = {rate:.2f} per cache and 5 s; "
            f"CPU {(self._cpu() - used) / STEADY_SECONDS:.2f} cores, {self._memory()}",
        )
        self.fleet.behaviour.progress_seconds = None
        self.fleet.nudge()
        await self._until(self._ready)

    async def _set_ready(self, index: int, status: str) -> None:
        body = {"status": {"conditions": [{"type": "Ready", "status": status}]}}
        await self.client.merge_patch(NODES, f"bench-{index:05}", body, subresource="status")

    async def _step(
        self, what: str, act: Callable[[], Awaitable[None]], caches: int, nodes: int
    ) -> None:
        before, started = self._writes(), time.monotonic()
        await act()
        self.caches, self.nodes = caches, nodes
        await self._until(lambda: self._placed() and self._ready())
        took = time.monotonic() - started
        await asyncio.sleep(8)
        self._row(
            what, f"Ready everywhere in {took:.1f} s, writes {_difference(self._writes(), before)}"
        )

    def _placed(self) -> bool:
        works = self.fleet.work_lists()
        return len(works) == self.nodes and all(len(work.entries) == self.caches for work in works)

    def _ready(self) -> bool:
        caches = self.seen.snapshot()
        return len(caches) == self.caches and all(
            any(
                c.type == "Ready"
                and c.status == "True"
                and c.message.startswith(f"{self.nodes} of")
                for c in view.conditions
            )
            for view in caches.values()
        )

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(1200):
            while not condition():  # noqa: ASYNC110  # the informers' handlers are theirs
                await asyncio.sleep(0.1)

    async def _add_node(self, index: int) -> None:
        name = f"bench-{index:05}"
        labels = {"kubernetes.io/hostname": name, "kserve/localmodel": "worker", "pool": "bench"}
        labels |= {f"example.com/label-{i}": f"value-{i}" for i in range(15)}
        body: dict[str, Any] = {"metadata": {"name": name, "labels": labels}}
        body["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
        await self.client.create(NODES, body)

    async def _add_cache(self, index: int) -> None:
        name = f"model-{index:04}"
        body = {
            "apiVersion": LOCAL_MODEL_CACHES.api_version,
            "kind": LOCAL_MODEL_CACHES.kind,
            "metadata": {"name": name},
            "spec": {
                "sourceModelUri": f"hf://org/{name}",
                "modelSize": "1Gi",
                "nodeGroups": ["bench"],
            },
        }
        await self.client.create(LOCAL_MODEL_CACHES, body)

    def _writes(self) -> Counter[str]:
        """Of the controller since its start, by verb and resource, refused ones included."""
        found: Counter[str] = Counter()
        for line in self.controller.get("/metrics")[1].splitlines():
            if line.startswith("rest_client_requests_total{"):
                labels, value = line.removeprefix("rest_client_requests_total{").rsplit("} ", 1)
                parts = dict(part.split("=", 1) for part in labels.replace('"', "").split(","))
                if (
                    parts["verb"] not in {"get", "list", "watch"}
                    and parts["resource"] not in IGNORED
                ):
                    found[f"{parts['verb']} {parts['resource']}"] += int(float(value.split()[0]))
        return found

    def _memory(self) -> str:
        return f"RSS {self._stat('VmRSS')} MiB, peak {self._stat('VmHWM')} MiB"

    def _stat(self, name: str) -> int:
        text = Path(f"/proc/{self.controller.pid}/status").read_text(encoding="ascii")
        line = next(line for line in text.splitlines() if line.startswith(name))
        return int(line.split()[1]) // 1024

    def _cpus(self) -> str:
        processes = (self.controller, self.plane.apiserver, self.plane.etcd)
        told = [f"{process.name} {self._cpu(process):.0f} s" for process in processes]
        return ", ".join([*told, f"agents {time.process_time():.0f} s"])

    def _cpu(self, process: Process | None = None) -> float:
        """Seconds of processor time since the process began; of the controller by default."""
        pid = (process or self.controller).pid
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()
        return (int(fields[13]) + int(fields[14])) / 100

    def _row(self, what: str, result: str) -> None:
        self.rows.append((what, result))
        print(f"{what:28} {result}", flush=True)


def _difference(now: Counter[str], before: Counter[str]) -> dict[str, int]:
    return {key: now[key] - before[key] for key in now if now[key] != before[key]}


async def _each(indices: range, act: Callable[[int], Awaitable[None]]) -> None:
    limit = asyncio.Semaphore(16)

    async def one(index: int) -> None:
        async with limit:
            await act(index)

    async with asyncio.TaskGroup() as group:
        for index in indices:
            group.create_task(one(index))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=["100x1000"], metavar="CACHESxNODES")
    for size in parser.parse_args().sizes:
        caches, nodes = (int(part) for part in size.split("x"))
        print(f"\n{caches} caches x {nodes} nodes")
        with (
            tempfile.TemporaryDirectory(prefix="localmodel-bench-") as folder,
            ControlPlane(Path(folder)) as plane,
        ):
            plane.apply_deploy()
            asyncio.run(Bench(plane, Path(folder), caches, nodes).run())


if __name__ == "__main__":
    main()
