"""Tests on the shared control plane."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import kserve
from tests.cluster.scene import Scene
from tests.support.controlplane import ControlPlane
from tests.support.fleet import FleetThread
from tests.support.programs import Controller


@pytest.fixture(scope="module", autouse=True)
def _left_behind(control_plane: ControlPlane) -> Iterator[None]:
    """Each module begins without objects of others, whatever became of those; within a module names keep tests apart."""
    yield
    control_plane.clear()


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """Of the controller; a module that needs others has a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
def services() -> tuple[str, ...]:
    """Kinds of KServe's services that are there before the controller; likewise."""
    return ()


@pytest.fixture(scope="module")
def controller(
    control_plane: ControlPlane,
    settings: dict[str, Any],
    services: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Controller]:
    kserve.install(control_plane, *services)
    made = Controller(
        control_plane,
        tmp_path_factory.mktemp("controller"),
        settings={"settle_seconds": 0.05, **settings},
    )
    made.start_ready()
    yield made
    if services:
        kserve.uninstall(control_plane)
    made.stop()


@pytest.fixture(scope="module")
def fleet(control_plane: ControlPlane) -> Iterator[FleetThread]:
    with FleetThread(control_plane.admin_kubeconfig) as running:
        yield running


@pytest.fixture
def scene(
    control_plane: ControlPlane, controller: Controller, fleet: FleetThread
) -> Iterator[Scene]:
    """A group `gpu` with the ready node a; modules add to it. Whatever a test made the fleet do ends with it."""
    made = Scene(control_plane)
    made.add_group()
    made.add_node("a")
    yield made
    fleet.reset()
    made.clean()
