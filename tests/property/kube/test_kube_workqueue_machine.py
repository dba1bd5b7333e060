"""Any sequence of adding, working, failing and waiting leaves the queue as client-go's would be."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.kube.workqueue import ShutDown, WorkQueue
from tests.unit.kube.virtual_time import VirtualTimeLoop

T = TypeVar("T")
KEYS = st.sampled_from("abcd")


class QueueMachine(RuleBasedStateMachine):
    """`dirty`: keys to work on. `working`: keys at workers. `due`: when a key becomes dirty by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.queue: WorkQueue[str] = WorkQueue("machine")
        self.dirty: set[str] = set()
        self.working: set[str] = set()
        self.due: dict[str, float] = {}
        self.failures: dict[str, int] = {}
        self.stopped = False

    def teardown(self) -> None:
        self.loop.close()

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(what)

    @property
    def ready(self) -> set[str]:
        return self.dirty - self.working

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        async def add() -> None:
            self.queue.add(key)

        self.run(add())
        self.add_now(key)

    def add_now(self, key: str) -> None:
        if not self.stopped:
            self.dirty.add(key)
            self.due.pop(key, None)

    @rule(key=KEYS, seconds=st.sampled_from([-1.0, 0.0, 1.0, 5.0, 50.0]))
    def add_after(self, key: str, seconds: float) -> None:
        async def add() -> None:
            self.queue.add_after(key, seconds)

        self.run(add())
        if self.stopped:
            return
        if seconds <= 0:
            self.add_now(key)
        elif key not in self.dirty:
            at = self.loop.time() + seconds
            self.due[key] = min(at, self.due.get(key, at))

    @precondition(lambda self: self.ready)
    @rule()
    def get(self) -> None:
        key = self.run(self.queue.get())
        assert key in self.ready
        self.dirty.remove(key)
        self.working.add(key)

    @precondition(lambda self: not self.ready and not self.due)
    @rule()
    def get_finds_nothing(self) -> None:
        async def get() -> None:
            async with asyncio.timeout(100):
                await self.queue.get()

        try:
            self.run(get())
        except ShutDown:
            assert self.stopped
        except TimeoutError:
            assert not self.stopped
        else:
            raise AssertionError("a key from nowhere")

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.queue.forget(key)
        self.finish(key)
        self.failures.pop(key, None)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        before = self.loop.time()

        async def fail() -> None:
            self.queue.add_rate_limited(key)

        self.run(fail())
        self.finish(key)
        self.failures[key] = self.failures.get(key, 0) + 1
        if not self.stopped:
            # The wait is random; at the latest it is over after this.
            longest = min(60.0, 0.2 * 2.0 ** (self.failures[key] - 1)) * 1.2
            self.wait(max(longest, self.due.get(key, 0) - before))
            self.dirty.add(key)

    def finish(self, key: str) -> None:
        async def done() -> None:
            self.queue.done(key)

        self.run(done())
        self.working.remove(key)

    @rule(seconds=st.sampled_from([0.5, 2.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))
        if not self.stopped:
            rung = {key for key, at in self.due.items() if at <= self.loop.time()}
            self.dirty |= rung
            for key in rung:
                del self.due[key]

    @precondition(lambda self: not self.stopped)
    @rule(really=st.integers(0, 9))
    def shut_down(self, really: int) -> None:
        # Seldom, since not much happens afterwards.
        if really == 0:
            self.queue.shut_down()
            self.stopped = True
            self.due.clear()

    @invariant()
    def exactly_the_ready_keys_wait(self) -> None:
        assert len(self.queue) == len(self.ready)

    @invariant()
    def failures_are_those_since_the_last_success(self) -> None:
        assert {key: self.queue.failures(key) for key in self.failures} == self.failures


QueueMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestWorkQueue = QueueMachine.TestCase
