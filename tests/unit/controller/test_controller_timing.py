import asyncio
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry

from controller.grace import Grace
from controller.liveness import Liveness
from controller.pacing import Change, Courtesy, Deadline, Pace, Patience, Rewrites, Settling
from controller.reconcilers.groups import GroupPass
from controller.router import Router
from controller.settings import ControllerSettings
from controller.world import World
from shared.api.node import ModelState
from shared.domain.views import GroupView, LeaseView, NodeView, ReportView, WorkView
from shared.kube.metrics import KubeMetrics


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_agent_is_silent_when_its_lease_did_not_change_for_so_long() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    liveness.node_changed("a", None, NodeView("a"))
    liveness.lease_changed("a", None, LeaseView("a", "1"))
    clock.now = 119
    assert liveness.silent(["a"], {}, seconds=120) == set()
    assert not liveness.lease_changed("a", LeaseView("a", "1"), LeaseView("a", "1"))
    clock.now = 120
    assert liveness.silent(["a"], {}, seconds=120) == {"a"}
    assert liveness.lease_changed("a", LeaseView("a", "1"), LeaseView("a", "0"))  # skewed clocks
    assert liveness.silent(["a"], {}, seconds=120) == set()


def test_a_node_that_was_never_heard_of_counts_from_when_it_was_first_seen() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    clock.now = 1000
    liveness.node_changed("a", None, NodeView("a"))
    assert liveness.silent(["a"], {}, seconds=120) == set()
    clock.now = 1120
    assert liveness.silent(["a"], {}, seconds=120) == {"a"}


def test_kserves_agent_which_keeps_no_lease_is_believed() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    liveness.node_changed("a", None, NodeView("a"))
    clock.now = 500
    work = WorkView("a", reports={"m": ReportView(ModelState.DOWNLOADED)})
    assert liveness.silent(["a"], {"a": work}, seconds=120) == set()


def test_grace_runs_out_line_by_line_and_is_forgotten_when_the_edit_is_taken_back() -> None:
    grace = Grace(300)
    assert grace.keep("a", {"m"}, now=0) == (frozenset({"m"}), 300)
    assert grace.keep("a", {"m", "n"}, now=100) == (frozenset({"m", "n"}), 200)
    assert grace.keep("a", {"m", "n"}, now=300) == (frozenset({"n"}), 100)
    assert grace.keep("a", set(), now=310) == (frozenset(), None)
    assert grace.keep("a", {"m"}, now=320) == (frozenset({"m"}), 300)


def test_without_grace_lines_go_at_once() -> None:
    assert Grace(0).keep("a", {"m"}, now=5) == (frozenset(), None)


def waiting(pace: Pace, now: float, change: Change, *, nodes: int = 3, caches: int = 1) -> float:
    return pace.wait("m", change, nodes=nodes, caches=caches, now=now)


def test_a_first_change_is_written_soon_and_the_next_only_after_the_debounce() -> None:
    pace = Pace(1.0)
    assert waiting(pace, 10, "copies") <= 1
    pace.wrote("m", 10, missing=3)
    assert waiting(pace, 10.25, "copies") == 0.75
    assert waiting(pace, 10.25, "progress") == 4.75
    assert waiting(pace, 10.25, "copies", nodes=1000, caches=100) == 31
    assert waiting(pace, 10.25, "copies", nodes=3000, caches=300) == 59.75
    assert waiting(pace, 10.25, "progress", nodes=3000, caches=300) == 59.75
    assert waiting(pace, 10.25, "copies", nodes=5000, caches=1000) == 59.75
    pace.forget("m")
    assert waiting(pace, 10.25, "progress") <= 1


def test_edits_services_and_deletion_are_told_at_once_however_large_the_fleet() -> None:
    pace = Pace(1.0)
    pace.wrote("m", 10, missing=3000)
    assert waiting(pace, 10.25, "facts", nodes=3000, caches=300) == 0.75
    assert waiting(pace, 12, "facts", nodes=3000, caches=300) <= 0.25


def test_that_the_last_copy_is_there_is_told_at_once_however_large_the_fleet() -> None:
    pace = Pace(1.0)
    pace.wrote("m", 10, missing=2)
    pace.landed("m")
    assert waiting(pace, 11, "copies", nodes=3000, caches=300) == 59
    pace.landed("m")
    assert waiting(pace, 11, "copies", nodes=3000, caches=300) <= 0.25
    pace.wrote("m", 11)
    assert waiting(pace, 11, "copies", nodes=3000, caches=300) == 60, "nothing is missing any more"


def test_statuses_give_way_to_work_lists_but_not_for_ever() -> None:
    clock = Clock()
    courtesy = Courtesy(clock)
    assert courtesy.yields("m", busy=True, seconds=10)
    clock.now = 9
    assert courtesy.yields("m", busy=True, seconds=10)
    assert courtesy.due(busy=True) == []
    assert courtesy.due(busy=False) == ["m"]
    clock.now = 10
    assert courtesy.due(busy=True) == ["m"]
    assert not courtesy.yields("m", busy=True, seconds=10)
    clock.now = 11
    assert courtesy.yields("m", busy=True, seconds=10)
    clock.now = 12
    assert not courtesy.yields("m", busy=False, seconds=10)
    assert courtesy.due(busy=False) == []


def test_who_keeps_undoing_what_is_written_is_answered_ever_less_often() -> None:
    clock = Clock()
    rewrites = Rewrites(clock, "work list")
    written: list[float] = []
    while clock.now < 600:
        if rewrites.wait("a", "the same") == 0:
            rewrites.wrote("a", "the same")
            written.append(clock.now)
        clock.now += 0.5
    assert written[:8] == [0, 0.5, 1, 1.5, 2, 3, 5, 9]
    assert sum(at < 60 for at in written) == 10
    assert sum(at >= 540 for at in written) == 1


def test_what_differs_or_was_left_alone_for_long_is_written_at_once() -> None:
    clock = Clock()
    rewrites = Rewrites(clock, "work list")
    for number in range(20):
        assert rewrites.wait("a", number) == 0
        rewrites.wrote("a", number)
    for _ in range(6):
        rewrites.wrote("a", "the same")
    assert rewrites.wait("a", "the same") > 0
    assert rewrites.wait("a", "another") == 0
    clock.now = 301
    rewrites.wrote("b", "whatever")
    assert rewrites.wait("a", "the same") == 0


def test_a_first_list_waits_for_a_first_cache_and_not_longer() -> None:
    clock = Clock()
    deadline = Deadline(clock, 6)
    assert deadline.left("a") == 6
    clock.now = 4
    assert deadline.left("a") == 2
    clock.now = 6
    assert deadline.left("a") == 0
    assert deadline.left("a") == 6  # forgotten, so that nothing is kept of nodes that left
    deadline.forget("a")  # a cache came meanwhile
    clock.now = 1000
    assert deadline.left("a") == 6


def test_patience_is_over_for_who_stays_without_a_break() -> None:
    clock = Clock()
    patience = Patience(clock, 300)
    assert patience.over({"a", "b"}) == set()
    clock.now = 200
    assert patience.over({"a"}) == set()
    clock.now = 300
    assert patience.over({"a", "b"}) == {"a"}


def test_agents_live_whose_lease_changed_lately() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    liveness.node_changed("kserves", None, NodeView("kserves"))
    liveness.lease_changed("a", None, LeaseView("a", "1"))
    assert liveness.living(seconds=120) == {"a"}
    clock.now = 120
    assert liveness.living(seconds=120) == set()


async def test_the_more_there_is_to_write_the_longer_it_is_collected() -> None:
    handed: dict[int, float] = {}
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    began = loop.time()

    def hand_on(keys: Iterable[str]) -> None:
        handed[len(list(keys))] = loop.time() - began
        if len(handed) == 2:
            done.set()

    few, many = (Settling(hand_on, quiet=0.05) for _ in range(2))
    few.add({"a"})
    many.add({f"n{i}" for i in range(1000)})
    await asyncio.wait_for(done.wait(), timeout=5)
    assert handed[1000] > 3 * handed[1]


async def test_edits_that_follow_each_other_closely_are_handed_on_together() -> None:
    handed: list[set[str]] = []
    done = asyncio.Event()

    def hand_on(keys: Iterable[str]) -> None:
        handed.append(set(keys))
        done.set()

    settling = Settling(hand_on, quiet=0.05)
    for key in ("a", "b", "a", "c"):
        settling.add({key})
        assert len(settling) > 0
    await asyncio.wait_for(done.wait(), timeout=5)
    assert handed == [{"a", "b", "c"}]
    assert len(settling) == 0


async def test_edits_that_never_pause_are_handed_on_anyway() -> None:
    handed = asyncio.Event()
    settling = Settling(lambda _: handed.set(), quiet=0.02)

    async def edit_for_ever() -> None:
        while True:
            settling.add({"a"})
            await asyncio.sleep(0.005)

    editor = asyncio.ensure_future(edit_for_ever())
    await asyncio.wait_for(handed.wait(), timeout=5)
    editor.cancel()
    settling.stop()
    assert len(settling) == 0


async def test_a_group_that_went_while_it_gave_way_leaves_nothing_behind() -> None:
    """One of the same name gives way anew."""
    clock = Clock()
    world = World()
    router = Router(world, Liveness(clock), ControllerSettings(), KubeMetrics(CollectorRegistry()))
    unused: Any = None
    reconcile = GroupPass(router, unused, now=unused, clock=clock)
    router.start().nodes.add("a")  # a work list is to be written
    world.put_group("gpu", GroupView("gpu", 0, None))
    assert await reconcile("gpu")
    world.put_group("gpu", None)
    assert await reconcile("gpu") is None
    clock.now = 1000
    world.put_group("gpu", GroupView("gpu", 0, None))
    assert await reconcile("gpu")
    router.stop()
