"""Space on the nodes: what the agents say of their disks, and of models that are larger than was declared."""

import time

import pytest

from tests.cluster.scene import Scene
from tests.support.fleet import GIB, FleetThread


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """And a cache `m` that is there."""
    scene.add_cache(size="4Gi")
    scene.wait(scene.ready, "ready")
    return scene


def used(scene: Scene) -> tuple[str, str]:
    status = (scene.read("localmodelnodegroup", "gpu") or {}).get("status", {})
    return status.get("used", ""), status.get("available", "")


def test_what_the_agent_has_no_room_for_waits_until_its_disk_has_it(
    scene: Scene, fleet: FleetThread
) -> None:
    fleet.change(bytes_total=4 * GIB, free=2 * GIB)
    scene.wait(lambda: used(scene) == ("4Gi", "2Gi"), "what the disk has left")
    scene.add_cache("n", size="3Gi")
    scene.wait(lambda: scene.condition("n")["reason"] == "NoSpace", "no space is told")
    message = scene.condition("n")["message"]
    assert "needs 3.0 GiB; the node's disk has room for 6.0 GiB of models" in message
    assert f"{scene.name('m')} (4.0 GiB)" in message
    assert scene.work_list("a") == ["m"]
    scene.wait(lambda: "NoSpace" in scene.events("a"), "told of the node")
    fleet.change(free=20 * GIB)
    scene.wait(lambda: scene.ready("n"), "placed by itself")


def test_of_two_that_wait_the_older_one_comes_first(scene: Scene) -> None:
    scene.add_group("gpu", limit="4Gi")
    for name in ("z-older", "a-younger"):
        scene.add_cache(name, size="3Gi")
        scene.wait(
            lambda name=name: scene.condition(name)["reason"] == "NoSpace",  # type: ignore[misc]
            "waits",
        )
        time.sleep(1)  # creation is told in whole seconds
        time.sleep(1)  # creation is told in whole seconds
    scene.add_group("gpu", limit="7Gi")
    scene.wait(lambda: scene.ready("z-older"), "the older one")
    assert scene.work_list("a") == ["m", "z-older"]
    assert scene.condition("a-younger")["reason"] == "NoSpace"
    scene.add_group("gpu", limit="4Gi")
    scene.add_cache("b", size="1Gi")
    scene.wait(lambda: scene.condition("b")["reason"] == "NoSpace", "nothing more fits")
    assert scene.work_list("a") == ["m", "z-older"], "what is there stays"


def test_a_model_that_is_larger_than_declared_is_told_and_counted_as_it_is(
    scene: Scene, fleet: FleetThread
) -> None:
    scene.add_group("gpu", limit="10Gi")
    fleet.change(bytes_total=8 * GIB)
    scene.wait(
        lambda: (
            "the model takes 8.0 GiB, modelSize says 4.0 GiB"
            in scene.condition().get("message", "")
        ),
        "told",
    )
    assert scene.ready(), "it is there all the same"
    scene.wait(lambda: used(scene) == ("8Gi", "2Gi"), "counted")
    scene.add_cache("n", size="3Gi")
    scene.wait(lambda: scene.condition("n")["reason"] == "NoSpace", "no space beside it")
