"""What the controller costs at size: `python -m tests.bench.controller [CACHESxNODES …]`, a table and its goals on standard output.

A real etcd and kube-apiserver, the controller with its own rights, and one process of simulated agents, all on this machine.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from shared.domain import parse
from shared.domain.views import CacheView
from shared.kube.client import KubeClient
from shared.kube.informer import Informer
from shared.kube.resource import (
    LOCAL_MODEL_CACHES,
    LOCAL_MODEL_NODE_GROUPS,
    NODES,
)
from tests.bench.controller_goals import GOALS, Figures, needed_mib
from tests.bench.controller_objects import GROUP, cache, node, node_name
from tests.support.controlplane import ControlPlane
from tests.support.fleet import MANAGER, Fleet
from tests.support.processes import Process
from tests.support.programs import Controller

STEADY_SECONDS = 60.0
PROGRESS_SECONDS = 30.0
SIZES = ("10x100", "100x1000", "300x3000")
# Nothing was written for so long: all that follows from a step is done.
QUIET_SECONDS = 8.0
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
        self.spent: dict[str, Counter[str]] = {}
        self._peak = 0

    async def run(self) -> Figures:
        self.client = await KubeClient.connect(
            kubeconfig=self.plane.admin_kubeconfig, manager=MANAGER, qps=2000, burst=2000
        )
        self.fleet = Fleet(self.client)
        self.seen: Informer[CacheView] = Informer(self.client, LOCAL_MODEL_CACHES, parse.cache)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(part.run()) for part in (self.fleet, self.seen)]
                try:
                    return await self._measure()
                finally:
                    for task in tasks:
                        task.cancel()
        finally:
            self.controller.stop()
            await self.client.close()

    async def _measure(self) -> Figures:
        caches, nodes = self.caches, self.nodes
        await self.client.create(LOCAL_MODEL_NODE_GROUPS, GROUP)
        await _each(range(nodes), self._add_node)
        _row("nodes created", f"CPU so far: kube-apiserver {self._cpu(self.plane.apiserver):.0f} s")
        await asyncio.to_thread(self.controller.start_ready)
        started = time.monotonic()
        await _each(range(caches), self._add_cache)
        await self._until(self._placed)
        placed = time.monotonic() - started
        # The fleet runs in this process.
        _row("all work lists complete", f"{placed:.1f} s; CPU {self._cpus()}")
        await self._until(self._ready)
        _row("all caches Ready", f"{time.monotonic() - started:.1f} s, {self._memory()}")
        await self._calm()
        self.spent["all"] = self._writes()
        share = sum(self.spent["all"].values()) / (nodes + 2 * caches)
        _row(
            "writes for it, statuses too",
            f"{self.spent['all'].total()} = {share:.2f} x (nodes + 2 caches)  {dict(self.spent['all'])}",
        )
        before, cpu = self._writes(), self._cpu()
        await asyncio.sleep(STEADY_SECONDS)
        self._spend("rest", before, f", {self._cpu() - cpu:.1f} s CPU")
        await self._step("new cache", lambda: self._add_cache(caches), caches + 1, nodes)
        await self._step("new node", lambda: self._add_node(nodes), caches + 1, nodes + 1)
        before = self._writes()
        for condition in ("False", "True"):
            await self._set_ready(nodes, condition)
            await self._calm()
        self._spend("flap", before)
        statuses, cores = await self._download()
        self.controller.stop()
        started = time.monotonic()
        await asyncio.to_thread(self.controller.start_ready)
        restart = time.monotonic() - started
        await self._calm()
        self._spend("restart", Counter(), f", ready in {restart:.1f} s, {self._memory()}")
        return Figures(
            caches=caches,
            nodes=nodes,
            placed_seconds=round(placed, 1),
            restart_seconds=round(restart, 1),
            writes=self.spent,
            statuses_per_cache=round(statuses, 2),
            cores=round(cores, 2),
            peak_mib=max(self._peak, self._stat("VmHWM")),
        )

    async def _download(self) -> tuple[float, float]:
        """Everything downloads; at last everything is there again. Statuses of a cache in 5 s, and cores."""
        self.fleet.behaviour.progress_seconds = PROGRESS_SECONDS
        await asyncio.sleep(2 * PROGRESS_SECONDS)
        before, used, answers = self._writes(), self._cpu(), self.fleet.writes
        await asyncio.sleep(STEADY_SECONDS)
        statuses = (self._writes() - before)["apply localmodelcaches"]
        rate = statuses / self.caches / (STEADY_SECONDS / 5)
        cores = (self._cpu() - used) / STEADY_SECONDS
        _row(
            "a minute of downloads",
            f"{self.fleet.writes - answers} answers of agents; {statuses} cache statuses = {rate:.2f} per cache and 5 s; "
            f"CPU {cores:.2f} cores, {self._memory()}",
        )
        self._peak = self._stat("VmHWM")
        self.fleet.behaviour.progress_seconds = None
        self.fleet.nudge()
        await self._until(self._ready)
        return rate, cores

    async def _calm(self) -> None:
        """Until nothing was written for a while."""
        writes, since = self._writes(), time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            await asyncio.sleep(0.5)
            if (now := self._writes()) != writes:
                writes, since = now, time.monotonic()

    def _spend(self, step: str, before: Counter[str], more: str = "") -> None:
        self.spent[step] = self._writes() - before
        _row(f"writes: {step}", f"{self.spent[step].total()} {dict(self.spent[step])}{more}")

    async def _set_ready(self, index: int, status: str) -> None:
        body = {"status": {"conditions": [{"type": "Ready", "status": status}]}}
        await self.client.merge_patch(NODES, node_name(index), body, subresource="status")

    async def _step(
        self, what: str, act: Callable[[], Awaitable[None]], caches: int, nodes: int
    ) -> None:
        before, started = self._writes(), time.monotonic()
        await act()
        self.caches, self.nodes = caches, nodes
        await self._until(lambda: self._placed() and self._ready())
        took = time.monotonic() - started
        await self._calm()
        self._spend(what, before, f", Ready everywhere in {took:.1f} s")

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
        await self.client.create(NODES, node(index))

    async def _add_cache(self, index: int) -> None:
        await self.client.create(LOCAL_MODEL_CACHES, cache(index))

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


def _row(what: str, result: str) -> None:
    print(f"{what:28} {result}", flush=True)


async def _each(indices: range, act: Callable[[int], Awaitable[None]]) -> None:
    limit = asyncio.Semaphore(16)

    async def one(index: int) -> None:
        async with limit:
            await act(index)

    async with asyncio.TaskGroup() as group:
        for index in indices:
            group.create_task(one(index))


def _available_mib() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=SIZES, metavar="CACHESxNODES")
    for size in parser.parse_args().sizes:
        caches, nodes = (int(part) for part in size.split("x"))
        print(f"\n{caches} caches x {nodes} nodes")
        needed, available = needed_mib(caches, nodes), _available_mib()
        if available < needed:
            print(f"SKIPPED: needs about {needed} MiB of memory, {available} MiB are available")
            continue
        with (
            tempfile.TemporaryDirectory(prefix="localmodel-bench-") as folder,
            ControlPlane(Path(folder)) as plane,
        ):
            plane.apply_deploy()
            found = asyncio.run(Bench(plane, Path(folder), caches, nodes).run())
        print(*(goal.line(found) for goal in GOALS), sep="\n", flush=True)


if __name__ == "__main__":
    main()
