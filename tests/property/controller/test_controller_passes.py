"""Edits that come amid the work, requests that fail, restarts: the passes and their queues lose nothing."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.property.controller.edits import Edits
from tests.property.controller.running import Failure, Running


class Amid(Edits):
    cluster: Running

    def beginning(self) -> Running:
        return Running()

    def teardown(self) -> None:
        self.check()
        self.cluster.close()

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.4, 1.0, 5.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.wait(seconds)

    @rule(
        failures=st.lists(
            st.sampled_from(["unreachable", "conflict", "answer lost"]), min_size=1, max_size=8
        )
    )
    def requests_fail(self, failures: list[Failure]) -> None:
        self.cluster.failing.extend(failures)

    @rule()
    def rest(self) -> None:
        self.check()


Amid.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAmid = Amid.TestCase
