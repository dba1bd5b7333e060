"""Somebody else who undoes whatever the controller writes: it goes on, but hammers nobody."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.kube.client import KubeClient
from shared.kube.resource import (
    LOCAL_MODEL_CACHES,
    LOCAL_MODEL_NODES,
    PERSISTENT_VOLUMES,
    Resource,
)
from tests.cluster import kserve
from tests.cluster.scene import Scene
from tests.support.processes import wait_until
from tests.support.programs import Controller

_SECONDS = 10
# Five at once, then after 1, 2, 4 and 8 seconds; some were due before the rival came.
_MOST = 10

Undo = Callable[[dict[str, Any]], dict[str, Any] | None]


@pytest.fixture(scope="module")
def services() -> tuple[str, ...]:
    return (kserve.INFERENCE,)


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """And a namespace `team`."""
    scene.add_namespace("team")
    return scene


@contextmanager
def rival(
    scene: Scene, resource: Resource, name: str, undo: Undo, *, subresource: str | None = None
) -> Iterator[list[int]]:
    """Merges what `undo` answers into the object at once, whenever it changes; counts how often."""
    done = [0]
    over = threading.Event()

    async def run() -> None:
        client = await KubeClient.connect(
            kubeconfig=scene.control_plane.admin_kubeconfig, manager="rival", qps=500, burst=500
        )
        try:
            while not over.is_set():
                patch = undo(await client.get(resource, name))
                if patch is not None:
                    await client.merge_patch(resource, name, patch, subresource=subresource)
                    done[0] += 1
                await asyncio.sleep(0.02)
        finally:
            await client.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="rival")
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


def sit(done: list[int]) -> int:
    """How often the rival had something to undo meanwhile."""
    wait_until(lambda: done[0] > 0, seconds=20, what="the rival undid something")
    over = threading.Event()
    over.wait(_SECONDS)
    return done[0]


def test_a_work_list_that_somebody_empties_again_and_again(
    scene: Scene, controller: Controller
) -> None:
    scene.add_cache()
    scene.wait(scene.ready, "ready")

    def empty(found: dict[str, Any]) -> dict[str, Any] | None:
        return {"spec": {"localModels": []}} if found["spec"].get("localModels") else None

    with rival(scene, LOCAL_MODEL_NODES, scene.name("a"), empty) as done:
        assert sit(done) <= _MOST
    assert "somebody undoes it" in controller.output()
    scene.wait(lambda: scene.work_list("a") == ["m"], "mended in the end", seconds=60)


def test_a_status_that_somebody_overwrites_again_and_again(scene: Scene) -> None:
    scene.add_cache()
    scene.wait(scene.ready, "ready")

    def empty(found: dict[str, Any]) -> dict[str, Any] | None:
        nodes = found["status"].get("nodeStatus")
        return {"status": {"nodeStatus": None}} if nodes else None

    with rival(scene, LOCAL_MODEL_CACHES, scene.name("m"), empty, subresource="status") as done:
        assert sit(done) <= _MOST
    scene.wait(lambda: scene.node_states() == {"a": "NodeDownloaded"}, "mended", seconds=60)


def test_a_finalizer_that_somebody_removes_again_and_again(scene: Scene) -> None:
    scene.add_cache()
    scene.wait(scene.ready, "ready")

    def strip(found: dict[str, Any]) -> dict[str, Any] | None:
        return {"metadata": {"finalizers": None}} if found["metadata"].get("finalizers") else None

    with rival(scene, LOCAL_MODEL_CACHES, scene.name("m"), strip) as done:
        assert sit(done) <= _MOST
    assert scene.work_list("a") == ["m"], "no copy is lost by it"
    scene.wait(
        lambda: bool((scene.read("localmodelcache", "m") or {})["metadata"].get("finalizers")),
        "mended in the end",
        seconds=60,
    )


def test_a_volume_that_somebody_resizes_again_and_again(scene: Scene) -> None:
    scene.add_cache()
    scene.add_service("s")
    name = f"m-{scene.name('gpu')}-{scene.name('team')}"
    scene.wait(lambda: scene.read("persistentvolume", name) is not None, "volume")

    def shrink(found: dict[str, Any]) -> dict[str, Any] | None:
        size = {"capacity": {"storage": "1Gi"}}
        return {"spec": size} if found["spec"]["capacity"] != size["capacity"] else None

    with rival(scene, PERSISTENT_VOLUMES, scene.name(name), shrink) as done:
        assert sit(done) <= _MOST
    scene.wait(
        lambda: (
            (scene.read("persistentvolume", name) or {})["spec"]["capacity"] == {"storage": "100Gi"}
        ),
        "mended",
        seconds=60,
    )
