"""Where the sources of `places` stand."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.component.sources.places import World
from tests.support.certificates import write_server


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, write_server(tmp_path / "authority"), request)
