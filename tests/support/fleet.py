"""A fleet of simulated agents in one process: they answer work lists with statuses and Leases, as real agents do.

As a program: `python -m tests.support.fleet --kubeconfig FILE`.
"""

import argparse
import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

from shared.domain import parse
from shared.domain.views import Entry, WorkView
from shared.kube.client import KubeClient
from shared.kube.errors import ApiError, Conflict, NotFound
from shared.kube.informer import Informer
from shared.kube.resource import LEASES, LOCAL_MODEL_NODES, ObjectKey
from shared.kube.runner import run_workers
from shared.kube.workqueue import WorkQueue

AGENTS_NAMESPACE = "localmodel-agents"
MANAGER = "localmodel-agent"
GIB = 1024**3
T = TypeVar("T")

# As many requests as a fleet of that size has under way at once on a small machine.
_WORKERS = 8


@dataclass(slots=True)
class Behaviour:
    """What the agents of a fleet do; may be changed while they run (then `Fleet.nudge`)."""

    answers: bool = True
    """Whether they write statuses at all."""
    evicts: bool = True
    """Whether a copy that the list no longer has is gone at once; else it is reported as being removed."""
    bytes_total: int = GIB
    revision: str | None = "r1"
    host_path: str = "/models"
    free: int = 1000 * GIB
    kept_free: int = 50 * GIB
    progress_seconds: float | None = None
    """Every copy downloads for ever, and every agent says so this often, each at a moment of its own."""
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What to report, by key, instead of a finished copy."""
    silent: set[str] = field(default_factory=set)
    """Nodes whose agent is gone: no status, no Lease."""
    clock_error: timedelta = timedelta()
    """By how much the agents' clocks are wrong."""
    idle: set[str] = field(default_factory=set)
    """Nodes whose agent lives, although there is no work list for it."""


class Fleet:
    """One agent for every LocalModelNode. Give it a client whose manager is `localmodel-agent`."""

    def __init__(
        self, client: KubeClient, behaviour: Behaviour | None = None, *, heartbeat: float = 30.0
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self.writes = 0
        self._client = client
        self._heartbeat = heartbeat
        self._queue: WorkQueue[str] = WorkQueue("fleet")
        self._informer = Informer(client, LOCAL_MODEL_NODES, parse.work)
        self._informer.on_change(self._changed)
        self._held: dict[str, dict[str, Entry]] = {}
        self._leases: dict[str, str] = {}
        self._written: dict[str, dict[str, Any]] = {}
        self._rounds = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.run())
            group.create_task(self._keep_leases())
            group.create_task(self._keep_downloading())
            group.create_task(
                run_workers(self._queue, self._answer, workers=_WORKERS, name="fleet")
            )

    def work_lists(self) -> list[WorkView]:
        return list(self._informer.snapshot().values())

    def nudge(self) -> None:
        """The behaviour changed: every agent looks again."""
        for key in self._informer.snapshot():
            self._queue.add(key.name)

    def _changed(self, key: ObjectKey, old: WorkView | None, new: WorkView | None) -> None:
        if new is None:
            self._written.pop(key.name, None)
        if new is None or old is None or old.generation != new.generation or old.uid != new.uid:
            self._queue.add(key.name)

    async def _answer(self, name: str) -> None:
        work = self._informer.get(ObjectKey(None, name))
        if work is None or not self.behaviour.answers or name in self.behaviour.silent:
            return
        status = self._status(name, work)
        if self._written.get(name) == status:
            return
        body = {
            "apiVersion": LOCAL_MODEL_NODES.api_version,
            "kind": LOCAL_MODEL_NODES.kind,
            "metadata": {"name": name, "uid": work.uid},
            "status": status,
        }
        try:
            await self._client.apply(
                LOCAL_MODEL_NODES, body, subresource="status", metadata_only=True
            )
        except (NotFound, Conflict):
            return  # deleted meanwhile, or another object of that name by now
        self._written[name] = status
        self.writes += 1

    def _status(self, name: str, work: WorkView) -> dict[str, Any]:
        wanted = {entry.key: entry for entry in work.entries}
        held = self._held.get(name, {})
        if not self.behaviour.evicts:
            wanted = {**held, **wanted}
        self._held[name] = wanted
        listed = {entry.key for entry in work.entries}
        models = [self._report(entry, listed) for entry in wanted.values()]
        used = sum(
            self.behaviour.bytes_total for _ in {entry.storage_key for entry in wanted.values()}
        )
        return {
            "observedGeneration": work.generation,
            "modelStatus": {model["key"]: model["state"] for model in models},
            "models": models,
            "storage": {
                "capacityBytes": self.behaviour.free + self.behaviour.kept_free + used,
                "availableBytes": self.behaviour.free,
                "keptFreeBytes": self.behaviour.kept_free,
                "usedBytes": used,
            },
            "agent": {"version": "simulated", "hostPath": self.behaviour.host_path},
        }

    def _report(self, entry: Entry, listed: set[str]) -> dict[str, Any]:
        report: dict[str, Any] = {
            "key": entry.key,
            "storageKey": entry.storage_key,
            "state": "ModelDownloaded",
            "reason": "Published",
            "bytesTotal": self.behaviour.bytes_total,
            "bytesDone": self.behaviour.bytes_total,
            "verifiedBy": "sha256",
            "completionTime": "2026-01-01T00:00:00Z",
        }
        revision = entry.revision or self.behaviour.revision
        if revision is not None:
            report["revision"] = revision
        if self.behaviour.progress_seconds is not None:
            done = self.behaviour.bytes_total // 1000 * (self._rounds % 1000)
            report |= {
                "state": "ModelDownloading",
                "reason": "Downloading",
                "bytesDone": done,
                "bytesPerSecond": done // 30,
            }
            report.pop("completionTime")
            report.pop("verifiedBy")
        if entry.key not in listed:
            report["reason"] = "Evicting"
        return report | self.behaviour.outcomes.get(entry.key, {})

    async def _keep_downloading(self) -> None:
        while True:
            seconds = self.behaviour.progress_seconds
            names = sorted(key.name for key in self._informer.snapshot())
            if seconds is None or not names:
                await asyncio.sleep(1)
                continue
            self._rounds += 1
            for name in names:
                self._queue.add(name)
                await asyncio.sleep(seconds / len(names))

    async def _keep_leases(self) -> None:
        """Several at a time: one after the other a large fleet would seem silent on a busy machine."""
        loop = asyncio.get_running_loop()
        limit = asyncio.Semaphore(_WORKERS)

        async def renew(name: str) -> None:
            async with limit:
                if name not in self.behaviour.silent:
                    await self._renew(name)

        while True:
            began = loop.time()
            names = {key.name for key in self._informer.snapshot()} | self.behaviour.idle
            async with asyncio.TaskGroup() as group:
                for name in sorted(names):
                    group.create_task(renew(name))
            await asyncio.sleep(max(0.1, began + self._heartbeat - loop.time()))

    async def _renew(self, name: str) -> None:
        now = (datetime.now(UTC) + self.behaviour.clock_error).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": name, "namespace": AGENTS_NAMESPACE},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 120, "renewTime": now},
        }
        try:
            await self._client.apply(LEASES, body, namespace=AGENTS_NAMESPACE, metadata_only=True)
        except ApiError as error:
            print(f"lease of {name}: {error.message}")


class FleetThread:
    """A fleet beside a test that is not asynchronous. `behaviour` is changed by `change`, on the fleet's own loop."""

    def __init__(self, kubeconfig: Path, *, heartbeat: float = 1.0) -> None:
        self._kubeconfig = kubeconfig
        self._heartbeat = heartbeat
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fleet", daemon=True)
        self._fleet: Fleet | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._client = self.do(
            KubeClient.connect(kubeconfig=self._kubeconfig, manager=MANAGER, qps=1000, burst=1000)
        )
        self._fleet = Fleet(self._client, heartbeat=self._heartbeat)
        self._running = asyncio.run_coroutine_threadsafe(self._fleet.run(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.cancel()
        self.do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the fleet's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def change(self, **behaviour: Any) -> None:
        """Set fields of the behaviour and let every agent look again."""

        async def change() -> None:
            assert self._fleet is not None
            for name, value in behaviour.items():
                setattr(self._fleet.behaviour, name, value)
            self._fleet.nudge()

        self.do(change())

    def reset(self) -> None:
        """Let every agent do again what it does by default."""
        self.change(**asdict(Behaviour()))

    async def _stop(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()
        await asyncio.sleep(
            0.1
        )  # aiohttp leaves it to the loop to take leave of the server over TLS


async def _main(kubeconfig: Path) -> None:
    client = await KubeClient.connect(kubeconfig=kubeconfig, manager=MANAGER, qps=1000, burst=1000)
    try:
        await Fleet(client).run()
    finally:
        await client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    asyncio.run(_main(parser.parse_args().kubeconfig))
