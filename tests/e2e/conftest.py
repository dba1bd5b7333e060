"""One cluster of real nodes for all of these tests; `make test-e2e` runs them, and needs root."""

import re
from collections.abc import Iterator

import pytest

from tests.e2e import models
from tests.e2e.models import Model
from tests.e2e.site import Site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as running:
        running.install()
        yield running


@pytest.fixture(scope="session")
def onnx(site: Site) -> Model:
    return models.put_onnx(site)


@pytest.fixture(scope="session")
def tiny(site: Site) -> Model:
    return models.put_tiny(site)


@pytest.fixture(scope="session")
def plain(site: Site) -> Model:
    return models.put_plain(site)


@pytest.fixture
def big(site: Site, request: pytest.FixtureRequest) -> Model:
    """A model of this test's own."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))
    return models.put_big(site, name[:60].strip("-"))
