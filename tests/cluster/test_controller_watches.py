"""Watches that fall silent, and a kind that the API server does not know for a moment."""

import time
from collections.abc import Iterator

import pytest

from tests.cluster import kserve
from tests.cluster.gateway import Gateway
from tests.cluster.scene import Scene
from tests.support.cluster import CONTROLLER_NAMESPACE
from tests.support.controlplane import ControlPlane
from tests.support.programs import Controller


@pytest.fixture(scope="module")
def gateway(control_plane: ControlPlane) -> Iterator[Gateway]:
    with Gateway(control_plane) as made:
        yield made


@pytest.fixture(scope="module")
def controller(
    control_plane: ControlPlane, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Controller]:
    """Behind the gateway, beside InferenceServices; it gives up a watch that is silent for 4 s."""
    kserve.install(control_plane, kserve.INFERENCE)
    folder = tmp_path_factory.mktemp("controller")
    own = control_plane.kubeconfig_for("localmodel-controller", CONTROLLER_NAMESPACE)
    made = Controller(
        control_plane,
        folder,
        settings={"settle_seconds": 0.05, "watch_silence_seconds": 4},
        kubeconfig=gateway.lead_through(own, folder / "kubeconfig"),
    )
    made.start_ready()
    yield made
    kserve.uninstall(control_plane)
    made.stop()


def users(scene: Scene) -> set[str]:
    listed = scene.status().get("inferenceServices", ())
    return {service["name"].removeprefix(scene.prefix) for service in listed}


def test_what_watches_that_fell_silent_did_not_tell_is_done_when_they_are_given_up(
    scene: Scene, gateway: Gateway
) -> None:
    scene.add_cache("before")
    scene.wait(lambda: scene.ready("before"), "works before")
    gateway.silence("localmodelcaches", "nodes")
    scene.add_cache("missed")
    scene.add_node("b")
    scene.delete("localmodelcache", "before")
    scene.wait(lambda: scene.read("localmodelcache", "before") is None, "deleted meanwhile")
    scene.wait(lambda: scene.work_list("b") == ["missed"], "joined meanwhile")
    scene.wait(lambda: scene.ready("missed"), "made meanwhile")


def test_a_kind_of_services_that_is_unknown_for_a_moment_protects_its_caches_all_the_same(
    scene: Scene, gateway: Gateway
) -> None:
    scene.add_namespace("team")
    scene.add_cache()
    scene.add_service("s")
    scene.wait(lambda: users(scene) == {"s"}, "in use")
    scene.wait(lambda: scene.condition(type="Servable")["status"] == "True", "at rest")
    began = time.monotonic()
    gateway.answer, gateway.only = 404, ("inferenceservices",)
    gateway.cut()
    gateway.cut(False)
    scene.wait(lambda: bool(asked(gateway, "/inferenceservices", began)), "asked")
    scene.add_cache("meanwhile")
    scene.wait(lambda: scene.ready("meanwhile"), "works meanwhile")
    assert "Forbidden" in scene.try_delete("localmodelcache", "m")
    assert asked(gateway, f"/{scene.name('m')}/status", began) == []
    gateway.answer = None
    scene.add_service("t")
    scene.wait(lambda: users(scene) == {"s", "t"}, "looks again, soon")


def asked(gateway: Gateway, path: str, since: float) -> list[str]:
    """Requests whose path ends so."""
    return [p.path for p in gateway.since(since) if p.path.endswith(path)]
