"""Tests on the shared control plane."""

from collections.abc import Iterator

import pytest

from tests.support.controlplane import ControlPlane


@pytest.fixture(scope="module", autouse=True)
def _left_behind(control_plane: ControlPlane) -> Iterator[None]:
    """Each module begins without objects of others, whatever became of those; within a module names keep tests apart."""
    yield
    control_plane.clear()
