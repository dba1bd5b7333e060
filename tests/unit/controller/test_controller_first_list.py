from typing import Any

from prometheus_client import CollectorRegistry

from controller.actions import Action, ApplyWorkList
from controller.grace import Grace
from controller.liveness import Liveness
from controller.reconcilers.nodes import NodePass
from controller.router import Router
from controller.routes import Dirty
from controller.settings import ControllerSettings
from shared.kube.metrics import KubeMetrics
from tests.unit.controller.builders import Cluster, group, node


class Writes:
    """In the place of an executor and a herald."""

    def __init__(self) -> None:
        self.done: list[Action] = []

    async def execute(self, action: Action) -> None:
        self.done.append(action)


async def test_a_new_nodes_first_list_waits_for_edits_that_concern_it_however_long() -> None:
    cluster = Cluster()
    cluster.put("group", group())
    cluster.put("node", node("a"))
    cluster.put("node", node("b"))
    router = Router(
        cluster.world,
        Liveness(lambda: 0.0),
        ControllerSettings(settle_seconds=60),
        KubeMetrics(CollectorRegistry()),
    )
    router.start()
    router.route(Dirty(settling={"a"}))
    writes: Any = Writes()
    reconcile = NodePass(router, writes, writes, Grace(0), lambda: 0.0, patience=0)
    assert await reconcile("a") is None
    assert writes.done == []
    await reconcile("b")
    assert [(type(action), action.node) for action in writes.done] == [(ApplyWorkList, "b")]
    router.stop()
