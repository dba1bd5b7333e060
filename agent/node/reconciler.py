"""Makes the disk hold what the work list names: reads the world, decides, starts and stops tasks, reports."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

import structlog

from agent.blocking import Blocking
from agent.copying.progress import CopyWatch
from agent.node.memory import Memory
from agent.node.report import Reporter
from agent.node.work import Worker
from agent.planning.desired import Entry, Wanted, group, read_work_list
from agent.planning.sync import (
    Adopt,
    Cancel,
    Cause,
    Decision,
    Evict,
    Fetch,
    Verify,
    Wait,
    next_due,
    sync,
)
from agent.planning.world import Disk, Limits, Running, Work, World
from shared.api.node import LocalModelNode
from shared.kube.metrics import KubeMetrics

log = structlog.get_logger(__name__)

# A pass that fails is a bug; it must neither spin nor end the agent, whose copies still serve.
_PAUSE_AFTER_BUG = 5.0
# A disk that has not answered a look for so long is reported as not ready.
_DISK_ANSWER_SECONDS = 120.0
# Without any event the world is read again after this: a second line of defence.
_LONGEST_PAUSE = 60.0


@dataclass(slots=True)
class _Task:
    work: Work
    wanted: Wanted | None
    watch: CopyWatch | None
    task: asyncio.Task[None]
    cancelled: bool = False


class Reconciler:
    """One loop; every change pokes it. At most one task per storage key."""

    def __init__(
        self,
        *,
        node: Callable[[], LocalModelNode | None],
        reporter: Reporter,
        memory: Memory,
        limits: Limits,
        progress_seconds: float,
        clock: Callable[[], datetime],
        blocking: Blocking,
        metrics: KubeMetrics,
    ) -> None:
        self._node = node
        self._reporter = reporter
        self._memory = memory
        self._limits = limits
        self._progress_seconds = progress_seconds
        self._clock = clock
        self._blocking = blocking
        self._metrics = metrics
        self._poked = asyncio.Event()
        self._look_again = asyncio.Event()
        self._tasks: dict[str, _Task] = {}
        self._looking_since: float | None = None
        self._ended = 0
        self._worker: Worker | None = None
        self._problem: str | None = None

    def poke(self) -> None:
        """Something changed: look at everything again."""
        self._poked.set()

    def closed(self, problem: str) -> None:
        """The store cannot be opened; says so in the status while it lasts."""
        self._problem = problem
        self.poke()

    async def serve(self, worker: Worker) -> None:
        """The store is open: from now on copies are made."""
        worker.shelf.saw(await self._blocking(worker.shelf.look, ()))
        self._worker = worker
        self._problem = None
        self._look_again.set()
        self.poke()

    @property
    def problem(self) -> str | None:
        """Why no copy can be made; None when all is well."""
        if self._problem is not None:
            return self._problem
        if self._worker is None:
            return "the cache folder has not been opened yet"
        since = self._looking_since
        if since is not None:
            silent = asyncio.get_running_loop().time() - since
            if silent > _DISK_ANSWER_SECONDS:
                return f"the disk has not answered for {silent:.0f} s"
        return self._worker.shelf.problem

    def describe(self) -> dict[str, Any]:
        """For people who debug: the snapshot and the tasks."""
        return {
            "problem": self.problem,
            "tasks": {key: task.task.get_name() for key, task in self._tasks.items()},
            "failures": {
                key: {"reason": failure.reason, "attempts": failure.attempts}
                for key, failure in self._memory.failures.items()
            },
            "status": self._reporter.describe(),
        }

    async def run(self) -> None:
        """For ever; when cancelled, all tasks have ended on return."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_disk(), name="disk")
            while True:
                self._poked.clear()
                started, result = loop.time(), "success"
                try:
                    pause = self._pass(tasks)
                except Exception:  # see _PAUSE_AFTER_BUG
                    log.exception("pass failed")
                    pause, result = _PAUSE_AFTER_BUG, "error"
                self._metrics.passed("copies", result, loop.time() - started)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._poked.wait()

    def _pass(self, tasks: asyncio.TaskGroup) -> float:
        """One look at everything; seconds until the next one, if nothing pokes."""
        node = self._node()
        entries = read_work_list(node.spec.local_models) if node else ()
        if node is not None:
            self._reporter.restore(node, self._memory)
        problem = self.problem
        world = self._world(node, entries, problem)
        if node is not None and problem is None and self._worker is not None:
            for decision in sync(world, self._limits):
                self._execute(decision, self._worker, tasks)
            world = self._world(node, entries, problem)
        if node is not None and (self._worker is not None or self._problem is not None):
            self._reporter.report(
                node,
                entries,
                world,
                {key: task.watch for key, task in self._tasks.items() if task.watch},
                shelf=self._worker.shelf if self._worker else None,
                problem=problem,
            )
        return self._pause(world, problem)

    def _world(
        self, node: LocalModelNode | None, entries: Sequence[Entry], problem: str | None
    ) -> World:
        desired = None if node is None else group(entries)
        disk = self._worker.shelf.disk() if self._worker else Disk()
        memory = self._memory
        if desired is not None and self._worker is not None:
            memory.trust_published(desired, disk.published)
        return World(
            now=self._clock(),
            desired=desired,
            disk=disk,
            running={
                key: Running(
                    work=task.work,
                    fingerprint=task.wanted.fingerprint if task.wanted else None,
                    revision=task.watch.revision if task.watch else None,
                    pinned=task.watch.pinned if task.watch else False,
                )
                for key, task in self._tasks.items()
            },
            failures=dict(memory.failures),
            granted=dict(memory.granted),
            refusals={key: dict(each) for key, each in memory.refusals.items()},
            settled=dict(memory.settled),
            copies_expected=memory.expects_copies(
                node, disk.published if problem is None else None
            ),
        )

    def _execute(self, decision: Decision, worker: Worker, tasks: asyncio.TaskGroup) -> None:
        match decision:
            case Fetch(wanted, cause):
                self._fetch(wanted, cause, worker, tasks)
            case Adopt(wanted):
                self._fetch(wanted, Cause.MISSING, worker, tasks)
            case Verify(key):
                self._start(key, Work.VERIFY, worker.verify(key), tasks)
            case Evict(key):
                self._reporter.forget(key)
                self._start(key, Work.EVICT, worker.evict(key), tasks)
            case Cancel(key):
                running = self._tasks[key]
                if not running.cancelled:
                    running.cancelled = True
                    running.task.cancel()
            case Wait():
                pass
            case _:
                assert_never(decision)

    def _fetch(
        self, wanted: Wanted, cause: Cause, worker: Worker, tasks: asyncio.TaskGroup
    ) -> None:
        watch = CopyWatch(on_phase=self.poke, started=self._clock().replace(microsecond=0))
        if cause is not Cause.ACCESS:
            self._reporter.follow(wanted.storage_key, watch)
        work = worker.fetch(wanted, cause, watch)
        self._start(wanted.storage_key, Work.FETCH, work, tasks, wanted, watch)
        self._look_again.set()

    def _start(
        self,
        key: str,
        work: Work,
        body: Coroutine[Any, Any, None],
        tasks: asyncio.TaskGroup,
        wanted: Wanted | None = None,
        watch: CopyWatch | None = None,
    ) -> None:
        task = tasks.create_task(body, name=f"{work.value} {key}")
        self._tasks[key] = _Task(work, wanted, watch, task)
        task.add_done_callback(lambda _: self._done(key))

    def _done(self, key: str) -> None:
        done = self._tasks.pop(key)
        if done.work is not Work.VERIFY:
            self._ended += 1
            self._look_again.set()
        self.poke()

    def _pause(self, world: World, problem: str | None) -> float:
        pause = _LONGEST_PAUSE
        if any(task.work is Work.FETCH for task in self._tasks.values()):
            pause = min(pause, self._progress_seconds)
        due = next_due(world, self._limits)
        if due is not None and problem is None:
            pause = min(pause, max((due - world.now).total_seconds(), 0.05))
        return pause

    async def _watch_disk(self) -> None:
        """Looks at the disk at intervals and after every task; its own task, because a sick disk may not answer."""
        loop = asyncio.get_running_loop()
        while True:
            worker = self._worker
            if worker is not None:
                ended = self._ended
                needs = {f.need for f in self._memory.all_failures() if f.need is not None}
                self._looking_since = loop.time()
                self._look_again.clear()
                look = await self._blocking(worker.shelf.look, needs)
                self._looking_since = None
                if ended != self._ended:
                    continue
                worker.shelf.saw(look)
                self._memory.space_came(look.fitting)
                self.poke()
            moving = any(task.work is Work.FETCH for task in self._tasks.values())
            pause = self._progress_seconds if moving else self._limits.check_every.total_seconds()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._look_again.wait()
