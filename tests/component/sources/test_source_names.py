"""A name that means another address a moment later: what was checked is what is connected to."""

import itertools
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from agent.errors import FetchError
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from tests.component.sources.reading import resolved
from tests.support.servers.azure import ACCOUNT, KEY
from tests.support.servers.threaded import ThreadedApp

NAME, ALLOWED, REFUSED = "rebinding.test", "127.0.0.1", "127.0.0.2"


@pytest.fixture
def hidden() -> Iterator[ThreadedApp]:
    """A server at an address that the policy refuses."""
    server = ThreadedApp("hidden", address=REFUSED)
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _rebinding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name means the allowed address and the refused one in turns."""
    turns = itertools.cycle((ALLOWED, REFUSED))
    really = socket.getaddrinfo

    def found(host: Any, *arguments: Any, **more: Any) -> Any:
        return really(next(turns) if host == NAME else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", found)


@pytest.mark.parametrize("first", ["allowed", "refused"])
@pytest.mark.parametrize(
    ("uri", "entry"),
    [
        ("s3://bucket/m", {"access_key_id": "a", "secret_access_key": "b"}),
        ("gs://bucket/m", {"anonymous": "true"}),
        ("hf://org/model", {}),
        ("az://models/m", {"account_name": ACCOUNT, "account_key": KEY}),
        ("oci://registry.test/a/b:v1", {}),
        ("modelscope://org/model", {}),
        ("hdfs://cluster/m", {"HDFS_NAMENODE": "http://{place}"}),
        ("git+http://{place}/org/model.git", {"anonymous": "true"}),
        ("http://{place}/file", {}),
    ],
)
async def test_no_request_reaches_an_address_that_was_not_checked(
    uri: str, entry: dict[str, str], first: str, hidden: ThreadedApp
) -> None:
    place = f"{NAME}:{hidden.url.rpartition(':')[2]}"
    said = {"endpoint_url": "http://{place}", **entry}
    credentials = Credentials.from_storage_config(
        {key: text.format(place=place) for key, text in said.items()}, {}
    )
    if first == "refused":
        socket.getaddrinfo(NAME, 80)
    with pytest.raises(FetchError):
        await resolved(
            uri.format(place=place),
            SourcePolicy(allowed_networks=(ip_network(f"{ALLOWED}/32"),)),
            credentials,
        )
    assert hidden.seen == []
