"""Real servers, one of each per session, and a world without anybody's own credentials."""

import os
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.policy import SourcePolicy
from tests.support.servers.azure import AzureServer
from tests.support.servers.gcs import GcsServer
from tests.support.servers.hub import HubServer
from tests.support.servers.registry import RegistryServer
from tests.support.servers.s3 import S3Server
from tests.support.servers.web import WebServer
from tests.support.servers.wire import WireStore


@pytest.fixture(scope="session", autouse=True)
def _nobodys_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither this machine's identities nor its proxies take part."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(
                ("AWS_", "AZURE_", "HF_", "GOOGLE_", "MODELSCOPE_", "STORAGE_EMULATOR")
            ) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        nowhere = tmp_path_factory.mktemp("home")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
        patch.setenv("NO_GCE_CHECK", "true")
        patch.setenv("HF_HOME", str(nowhere / "hf"))
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    with AzureServer() as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    with GcsServer() as server:
        yield server


@pytest.fixture(scope="session")
def registry_server() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


@pytest.fixture(scope="session")
def web_server() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def hub_server() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def wire_store() -> Iterator[WireStore]:
    with WireStore() as server:
        yield server


@pytest.fixture
def loopback_policy(tmp_path: Path) -> SourcePolicy:
    """A cluster's policy whose admin allows loopback, and file:// below the test's own folder."""
    return SourcePolicy(
        allowed_file_roots=(tmp_path,), allowed_networks=(ip_network("127.0.0.0/8"),)
    )
