"""One browser for all tests of the page; each test has a tab of its own."""

from collections.abc import Iterator

import pytest

from tests.cluster.conftest import controller as controller
from tests.cluster.conftest import fleet as fleet
from tests.cluster.conftest import scene as scene
from tests.cluster.conftest import services as services
from tests.cluster.conftest import settings as settings
from tests.support.browser import Browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("browser"))
    made.start()
    yield made
    made.stop()
