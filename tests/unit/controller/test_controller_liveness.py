"""Whose word counts, also right after a change of the leader."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller import routes
from controller.liveness import Liveness
from controller.planning.silence import shown_silent
from controller.router import Router
from controller.settings import ControllerSettings
from controller.world import World
from shared.api.node import ModelState
from shared.domain import parse
from shared.domain.views import LeaseView, NodeView, ReportView, WorkView
from shared.kube.metrics import KubeMetrics
from shared.kube.resource import ObjectKey
from tests.unit.controller.builders import Cluster, cache, group, node

HELD = {"m": ReportView(ModelState.DOWNLOADED)}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cluster() -> Cluster:
    """Cache m on the nodes a and b, whose agents hold it, and on c, where none ever was."""
    made = Cluster()
    made.put("group", group())
    for name in ("a", "b", "c"):
        made.put("node", node(name))
    made.put("cache", cache("m"))
    made.settle()
    made.answer("a")
    made.answer("b")
    made.silence("c")
    made.settle()
    return made


def successor(cluster: Cluster) -> Cluster:
    """A new leader, which knows of silence only what the statuses show."""
    fresh = Cluster()
    fresh.stored = dict(cluster.stored)
    fresh.restart()
    fresh._add(routes.liveness_changed(fresh.world, shown_silent(fresh.world), set()))
    return fresh


def test_a_new_leader_writes_nothing_while_dead_agents_stay_dead(cluster: Cluster) -> None:
    cluster.silence("b", "c")
    cluster.settle()
    assert cluster.status("m")["nodeStatus"]["b"] == ""
    fresh = successor(cluster)
    assert fresh.world.silent == {"b", "c"}
    assert fresh.settle() == 0


def test_nor_where_the_whole_node_is_gone(cluster: Cluster) -> None:
    cluster.silence("b", "c")
    cluster.put("node", node("b", ready=False))
    cluster.settle()
    assert cluster.status("m")["nodeStatus"]["b"] == "NodeNotReady"
    assert successor(cluster).settle() == 0


def test_nor_where_agents_are_missing_and_space_is_too(cluster: Cluster) -> None:
    cluster.put("node", node("d", pool="gpu", full="yes"))
    cluster.put("group", group("full", limit="1Mi", full="yes"))
    cluster.put("cache", cache("n", "full", "gpu"))
    cluster.settle()
    for name in ("a", "b"):
        cluster.answer(name)
    cluster.settle()
    assert cluster.condition("n") == ("False", "NoSpace")
    assert cluster.condition("n", "Stalled") == ("True", "NoSpace")
    assert successor(cluster).settle() == 0


def test_whose_agents_live_is_in_no_doubt(cluster: Cluster) -> None:
    cluster.put("node", node("b", ready=False))
    cluster.settle()
    assert cluster.status("m")["nodeStatus"]["b"] == "NodeDownloaded"
    assert "b" not in successor(cluster).world.silent


async def test_who_was_silent_stays_so_over_a_change_of_the_leader_until_its_lease_moves(
    cluster: Cluster,
) -> None:
    cluster.silence("b", "c")
    cluster.settle()
    router = Router(
        World(), Liveness(Clock()), ControllerSettings(), KubeMetrics(CollectorRegistry())
    )
    for (kind, key), obj in cluster.stored.items():
        tell: Any
        read: Any
        tell, read = {
            "node": (router.node, parse.node),
            "work": (router.work, parse.work),
            "cache": (router.cache, parse.cache),
            "group": (router.group, parse.group),
        }[kind]
        tell(ObjectKey(None, key), None, read(obj))
    left = {name: LeaseView(name, "1") for name in ("a", "b")}
    for name, lease in left.items():
        router.lease(ObjectKey(None, name), None, lease)
    router.start()
    assert router.world.silent == {"b", "c"}
    assert router.world.abandoned == set()
    router.lease(ObjectKey(None, "b"), left["b"], LeaseView("b", "2"))
    assert router.world.silent == {"c"}
    router.stop()


def test_a_lease_that_only_lies_there_is_no_sign_of_life_of_who_was_silent() -> None:
    clock = Clock()
    liveness = Liveness(clock)
    for name in ("dead", "back", "fresh"):
        liveness.node_changed(name, None, NodeView(name))
        liveness.lease_changed(name, None, LeaseView(name, "1"))
    liveness.lease_changed("back", LeaseView("back", "1"), LeaseView("back", "2"))
    liveness.doubt({"dead", "back"})
    nodes = {"dead", "back", "fresh"}
    assert liveness.silent(nodes, {}, seconds=120) == {"dead"}
    assert liveness.given_up(nodes, {}, seconds=900) == set()  # that takes its time as ever
    assert liveness.lease_changed("dead", LeaseView("dead", "1"), LeaseView("dead", "2"))
    assert liveness.silent(nodes, {}, seconds=120) == set()


def test_a_doubted_node_is_believed_with_its_first_lease() -> None:
    liveness = Liveness(Clock())
    liveness.node_changed("a", None, NodeView("a"))
    liveness.doubt({"a"})
    assert liveness.silent({"a"}, {}, seconds=120) == {"a"}
    assert liveness.lease_changed("a", None, LeaseView("a", "1"))
    assert liveness.silent({"a"}, {}, seconds=120) == set()


class Kserves:
    """An agent of KServe's: it keeps no Lease, and writes its status only when that changed."""

    def __init__(self, *lines: str) -> None:
        self.clock = Clock()
        self.liveness = Liveness(self.clock)
        self.liveness.node_changed("a", None, NodeView("a"))
        self.work: WorkView | None = None
        self.entries = Cluster()
        self.entries.put("group", group())
        self.entries.put("node", node("a"))
        self.change(*lines, reports={})

    def change(self, *lines: str, reports: dict[str, ReportView]) -> bool:
        for name in lines:
            self.entries.put("cache", cache(name))
        self.entries.settle()
        have = self.entries.world.works.get("a")
        entries = tuple(line for line in (have.entries if have else ()) if line.key in lines)
        new = WorkView("a", entries, reports)
        spoke = self.liveness.work_changed("a", self.work, new)
        self.work = new
        return spoke

    def silent(self, seconds: float) -> bool:
        assert self.work is not None
        return bool(self.liveness.silent(["a"], {"a": self.work}, seconds=seconds))


def test_kserves_agent_is_believed_for_as_long_as_it_owes_nothing() -> None:
    agent = Kserves("m")
    agent.change("m", reports=HELD)
    agent.clock.now = 100_000
    assert not agent.silent(120)


def test_kserves_agent_that_does_not_answer_is_silent_like_any_other() -> None:
    agent = Kserves("m")
    agent.change("m", reports=HELD)
    agent.clock.now = 1000
    agent.change(reports=HELD)  # the line is gone, the copy is not
    assert not agent.silent(120)
    agent.clock.now = 1900
    assert agent.silent(120)
    assert agent.silent(900)
    assert agent.change(reports={})
    agent.change("m", reports=HELD)
    assert not agent.silent(120)


def test_each_word_of_kserves_agent_is_a_sign_of_life() -> None:
    agent = Kserves("m", "n")
    agent.change("m", "n", reports=HELD)
    agent.clock.now = 100
    assert agent.change("m", "n", reports={"m": ReportView(ModelState.DOWNLOADING)})
    agent.clock.now = 219
    assert not agent.silent(120)
    agent.clock.now = 220
    assert agent.silent(120)
