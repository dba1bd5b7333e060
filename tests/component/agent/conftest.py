from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.agent.terminal import Cli
from tests.support.servers.gcs import GcsServer
from tests.support.servers.hub import HubServer
from tests.support.servers.s3 import READER, S3Server
from tests.support.servers.web import WebServer


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    with GcsServer() as server:
        yield server


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def cli(s3: S3Server) -> Cli:
    """With a reader's keys in the environment, as a person would have them."""
    return Cli(
        AWS_ACCESS_KEY_ID=READER.access_key_id,
        AWS_SECRET_ACCESS_KEY=READER.secret_access_key,
        AWS_ENDPOINT_URL_S3=s3.endpoint,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"
