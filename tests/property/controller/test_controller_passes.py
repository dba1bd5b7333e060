"""Edits that come amid the work, requests that fail, restarts: the passes and their queues lose nothing."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.property.controller.edits import Edits
from tests.property.controller.running import Failure, Running
from tests.unit.controller.binder import service
from tests.unit.controller.builders import cache, group, node


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


def test_a_volume_to_which_others_wrote_meanwhile_follows_its_group_all_the_same() -> None:
    cluster, wider = Running(), group()
    wider["spec"]["persistentVolumeSpec"]["capacity"] = {"storage": "2Ti"}
    cluster.put("group", group())
    cluster.put("node", node("a"))
    cluster.put("cache", cache("m"))
    cluster.put("service", service("s"))
    cluster.settle()
    cluster.put("group", wider)
    cluster.wait(0.1)  # the patch is under way
    cluster.edit("volume", "m-gpu-team", lambda meta: meta.update(labels={"by": "others"}))
    cluster.wait(60)
    assert cluster.stored["volume", "m-gpu-team"]["spec"]["capacity"] == {"storage": "2Ti"}
    cluster.close()
