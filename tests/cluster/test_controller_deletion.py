"""A deleted cache goes when its bytes are gone, in whatever order things are deleted and whoever is away meanwhile."""

import time
from datetime import timedelta
from typing import Any

import pytest

from tests.cluster.scene import Scene
from tests.support.fleet import FleetThread
from tests.support.programs import Controller


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return {"agent_silence_seconds": 3, "deletion_silence_seconds": 4}


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """And the ready node b, and a cache `m` that both hold."""
    scene.add_node("b")
    scene.add_cache()
    scene.wait(scene.ready, "cache ready")
    return scene


def gone(scene: Scene) -> bool:
    return scene.read("localmodelcache", "m") is None


def test_the_group_first(scene: Scene, fleet: FleetThread) -> None:
    fleet.change(evicts=False)
    scene.delete("localmodelnodegroup", "gpu")
    scene.wait(lambda: scene.condition()["reason"] == "NodeGroupNotFound", "missing group is told")
    scene.wait(lambda: scene.work_list("a") == [], "the list is emptied")
    scene.delete("localmodelcache", "m")
    scene.wait(lambda: scene.condition()["reason"] == "Deleting", "deletion is told")
    assert scene.node_states().keys() <= {"a", "b"}
    fleet.change(evicts=True)
    scene.wait(lambda: gone(scene), "cache is gone")
    scene.wait(lambda: scene.work_list("a") is None, "no list is left where no group is")


def test_a_node_first_and_the_controller_down(
    scene: Scene, controller: Controller, fleet: FleetThread
) -> None:
    fleet.change(evicts=False)
    controller.stop()
    scene.delete("node", "b")
    scene.delete("localmodelcache", "m")
    controller.start_ready()
    scene.wait(lambda: scene.node_states().keys() == {"a"}, "only a has to confirm")
    fleet.change(evicts=True)
    scene.wait(lambda: gone(scene), "cache is gone")


def test_what_a_silent_agent_may_still_hold_is_recorded_and_removed_when_it_returns(
    scene: Scene, controller: Controller, fleet: FleetThread
) -> None:
    fleet.change(silent={scene.name("b")})
    scene.wait(lambda: scene.condition()["reason"] == "AgentSilent", "silence is told")
    assert scene.node_states()["b"] == ""
    assert scene.status()["copies"]["available"] == 1
    scene.delete("localmodelcache", "m")
    scene.wait(lambda: gone(scene), "the silent agent is not waited for")
    assert {"Available", "AgentSilent", "Deleting"} <= scene.events("m")
    left = scene.read("localmodelnode", "b")
    assert left is not None
    assert left["spec"]["localModels"] == []
    assert [model["key"] for model in left["status"]["models"]] == [scene.name("m")]
    scene.wait(
        lambda: "CopyUnconfirmed" in scene.events("b") & scene.events("m"),
        "told about cache and node",
    )
    fleet.change(silent=set())
    scene.wait(
        lambda: (scene.read("localmodelnode", "b") or {})["status"]["models"] == [], "cleaned"
    )

    def told(event: str) -> int:
        lines = controller.output().splitlines()
        return sum(event in line and scene.name("b") in line for line in lines)

    scene.wait(lambda: told("agents came back") == 1, "its return is in the log")
    assert told("agents fell silent") == 1


@pytest.mark.parametrize("hours", [-3, 3])
def test_whether_an_agent_lives_does_not_depend_on_its_clock(
    scene: Scene, fleet: FleetThread, hours: int
) -> None:
    fleet.change(clock_error=timedelta(hours=hours), silent={scene.name("b")})
    scene.wait(lambda: scene.condition()["reason"] == "AgentSilent", "silence is told")
    assert scene.node_states() == {"a": "NodeDownloaded", "b": ""}
    fleet.change(silent=set())
    scene.wait(scene.ready, "a sign of life is one, whatever time it tells")


def test_a_new_leader_takes_nothing_back_of_what_is_told_of_silent_agents(
    scene: Scene, controller: Controller, fleet: FleetThread
) -> None:
    fleet.change(silent={scene.name("b"), scene.name("c")})
    scene.add_node("c")
    unknown = {"a": "NodeDownloaded", "b": "", "c": ""}
    scene.wait(lambda: scene.node_states() == unknown, "silence is told")
    scene.wait(lambda: scene.condition()["reason"] == "AgentSilent", "the cache says why")

    def versions() -> list[str]:
        found = [scene.read("localmodelcache", "m"), scene.read("localmodelnode", "b")]
        return [item["metadata"]["resourceVersion"] for item in found if item]

    before = versions()
    controller.stop()
    controller.start_ready()
    scene.wait(lambda: bool(controller.state()["leading"]), "leads again")
    time.sleep(5)  # longer than the silence that is taken for death here
    assert versions() == before
    fleet.change(silent=set())
    scene.wait(lambda: scene.status()["copies"]["available"] == 3, "believed at once")


def test_a_node_that_left_with_a_copy_is_asked_for_it_when_it_returns(
    scene: Scene, fleet: FleetThread
) -> None:
    b = scene.name("b")
    fleet.change(silent={b})
    scene.delete("node", "b")
    scene.wait(lambda: scene.work_list("b") is None, "its list goes with it")
    scene.wait(lambda: scene.node_states().keys() == {"a"}, "its copy is counted no more")
    scene.delete("localmodelcache", "m")
    scene.wait(lambda: gone(scene), "a node that left is not waited for")
    scene.add_node("b", pool="nobodys")
    fleet.change(silent=set(), idle={b}, evicts=False)
    scene.wait(lambda: scene.work_list("b") == [], "its agent gets an empty list")
    scene.wait(
        lambda: bool((scene.read("localmodelnode", "b") or {}).get("status", {}).get("models")),
        "what it holds is shown",
    )
    fleet.change(evicts=True)
    scene.wait(lambda: scene.work_list("b") is None, "cleaned, and left alone")
