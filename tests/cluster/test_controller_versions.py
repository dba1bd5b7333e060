"""A cluster that serves one version alone of KServe's LLMInferenceService."""

from collections.abc import Iterator

import pytest

from tests.cluster import kserve
from tests.cluster.scene import Scene
from tests.support.controlplane import ControlPlane
from tests.support.programs import Controller


@pytest.fixture(scope="module")
def controller(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Controller]:
    kserve.uninstall(control_plane)
    settings = {"settle_seconds": 0.05, "recheck_seconds": 1}
    made = Controller(control_plane, tmp_path_factory.mktemp("controller"), settings=settings)
    made.start_ready()
    yield made
    made.stop()


@pytest.fixture
def scene(scene: Scene) -> Iterator[Scene]:
    """And a namespace `team`."""
    scene.add_namespace("team")
    yield scene
    kserve.uninstall(scene.control_plane)


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2"])
def test_services_of_the_one_version_that_is_there_are_seen_and_served(
    scene: Scene, version: str
) -> None:
    plane, team = scene.control_plane, scene.name("team")
    kserve.install(plane, kserve.LLM, versions=(version,))
    scene.add_cache()
    service = kserve.service(
        scene.name("s"), team, scene.name("m"), kind=kserve.LLM, version=version
    )
    scene.apply(service)
    listed = [{"name": scene.name("s"), "namespace": team}]
    scene.wait(lambda: scene.status().get("llmInferenceServices") == listed, "in the status")
    scene.wait(lambda: scene.condition(type="Servable")["status"] == "True", "claim bound")
    assert "Forbidden" in scene.try_delete("localmodelcache", "m")
    # By its version: kubectl remembers for minutes which one an earlier test had installed.
    scene.delete(f"{kserve.LLM}.{version}.serving.kserve.io", "s", namespace=team)
    scene.wait(lambda: not scene.status().get("llmInferenceServices"), "out of the status")
