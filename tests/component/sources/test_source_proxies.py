"""Every kind of source through the environment's proxy, and with an authority of its owner's own."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.errors import FetchError
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.copying import copied
from tests.component.sources.reading import resolved
from tests.support.certificates import ServerFiles, write_server
from tests.support.proxy import ForwardProxy
from tests.support.servers.azure import ACCOUNT, KEY, AzureServer
from tests.support.servers.gcs import GcsServer
from tests.support.servers.git import GitServer
from tests.support.servers.hub import HubServer
from tests.support.servers.modelscope import ModelScopeServer
from tests.support.servers.registry import LAYER, RegistryServer
from tests.support.servers.s3 import ADMIN, S3Server
from tests.support.servers.threaded import Fault
from tests.support.servers.web import WebServer
from tests.support.servers.webhdfs import WebHdfsServer
from tests.support.servers.wire import WireStore
from tests.support.tls_front import TlsFront

CONTENT = b"content"


@dataclass(frozen=True)
class Place:
    """A source behind TLS. entry: what names it, but for the authority."""

    uri: str
    entry: dict[str, str]
    authority: Path

    def credentials(self, *, trusted: bool) -> Credentials:
        bundle = {"ca_bundle": self.authority.read_text()} if trusted else {}
        return Credentials.from_storage_config(self.entry | bundle, {})


@dataclass(frozen=True)
class World:
    stack: ExitStack
    files: ServerFiles
    request: pytest.FixtureRequest

    def front(self, url: str) -> TlsFront:
        return self.stack.enter_context(TlsFront(url, self.files))

    def place(self, uri: str, entry: dict[str, str]) -> Place:
        return Place(uri, entry, self.files.authority)


def _s3(world: World) -> Place:
    server: S3Server = world.request.getfixturevalue("s3_server")
    server.make_bucket("proxied")
    server.put("proxied", "m/file", CONTENT)
    keys = {
        "access_key_id": ADMIN.access_key_id,
        "secret_access_key": ADMIN.secret_access_key,
        "endpoint_url": world.front(server.endpoint).url,
    }
    return world.place("s3://proxied/m", keys)


def _gs(world: World) -> Place:
    server: GcsServer = world.request.getfixturevalue("gcs_server")
    server.make_bucket("proxied")
    server.put("proxied", "m/file", CONTENT)
    endpoint = world.front(server.endpoint).url
    return world.place("gs://proxied/m", {"endpoint_url": endpoint, "anonymous": "true"})


def _hf(world: World) -> Place:
    hub: HubServer = world.request.getfixturevalue("hub_server")
    hub.add("org/model", {"file": CONTENT})
    return world.place("hf://org/model", {"endpoint_url": world.front(hub.endpoint).url})


def _http(world: World) -> Place:
    server: WebServer = world.request.getfixturevalue("web_server")
    server.put("file", CONTENT)
    return Place(f"{server.tls_url}/file", {"type": "https"}, server.authority)


def _az(world: World) -> Place:
    server: AzureServer = world.request.getfixturevalue("azure_server")
    server.make_container("proxied")
    server.put("proxied", "m/file", CONTENT)
    entry = {"endpoint_url": server.endpoint, "account_name": ACCOUNT, "account_key": KEY}
    return Place("az://proxied/m", entry, server.authority)


def _oci(world: World) -> Place:
    server: RegistryServer = world.request.getfixturevalue("registry_server")
    name = "public/proxied"
    server.push_image(name, "v1", [server.layer(name, CONTENT, LAYER, title="file")])
    return world.place(
        f"oci://registry.test/{name}:v1", {"endpoint_url": world.front(server.endpoint).url}
    )


def _modelscope(world: World) -> Place:
    hub = world.stack.enter_context(ModelScopeServer())
    hub.add("org/model", {"file": CONTENT})
    return world.place("modelscope://org/model", {"endpoint_url": world.front(hub.endpoint).url})


def _webhdfs(world: World) -> Place:
    hdfs = world.stack.enter_context(WebHdfsServer())
    hdfs.put("/m/file", CONTENT)
    hdfs.data.url = world.front(hdfs.data.url).url
    return world.place(f"swebhdfs://{world.front(hdfs.url).place}/m", {"anonymous": "true"})


def _git(world: World) -> Place:
    git = world.stack.enter_context(GitServer())
    git.commit("org/model", {"file": CONTENT})
    return world.place(f"git+{world.front(git.url).url}/org/model.git", {"anonymous": "true"})


PLACES: dict[str, Callable[[World], Place]] = {
    "s3": _s3,
    "gs": _gs,
    "hf": _hf,
    "http": _http,
    "az": _az,
    "oci": _oci,
    "modelscope": _modelscope,
    "webhdfs": _webhdfs,
    "git": _git,
}


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, write_server(tmp_path / "authority"), request)


@pytest.mark.parametrize("kind", PLACES)
async def test_a_copy_comes_through_the_proxy_from_whom_its_authority_vouches_for(
    kind: str,
    world: World,
    loopback_policy: SourcePolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = PLACES[kind](world)
    with pytest.raises(FetchError) as caught:
        await resolved(place.uri, loopback_policy, place.credentials(trusted=False))
    assert caught.value.reason is Reason.SOURCE_UNREACHABLE
    with ForwardProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        done = await copied(place.uri, tmp_path, loopback_policy, place.credentials(trusted=True))
        assert done.files == {"file": CONTENT}
        # Listing and bytes alike; git's bytes come with the listing.
        assert len(proxy.seen) >= (1 if kind == "git" else 2)
        assert not proxy.refused
        before = len(proxy.seen)
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.0/8")
        await resolved(place.uri, loopback_policy, place.credentials(trusted=True))
        assert len(proxy.seen) == before


@pytest.fixture(scope="module")
def account() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "client_email": "reader@project.iam.gserviceaccount.com",
        "private_key": key.decode(),
    }


async def test_a_service_account_s_token_comes_the_same_way(
    world: World,
    wire_store: WireStore,
    account: dict[str, str],
    loopback_policy: SourcePolicy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire_store.lists(["m/file"])
    tokens, store = world.front(wire_store.url), world.front(wire_store.url)
    entry = {
        "service_account": json.dumps({**account, "token_uri": f"{tokens.url}/oauth/token"}),
        "endpoint_url": store.url,
    }
    place = world.place("gs://bucket/m", entry)
    with ForwardProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        await resolved(place.uri, loopback_policy, place.credentials(trusted=True))
        assert f"CONNECT {tokens.place} HTTP/1.1" in proxy.seen


@pytest.mark.parametrize("kind", ["gs", "az"])
async def test_who_takes_any_certificate_for_bytes_still_shows_keys_to_nobody_unknown(
    kind: str,
    world: World,
    wire_store: WireStore,
    account: dict[str, str],
    loopback_policy: SourcePolicy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire_store.lists(["m/file"])
    front = world.front(wire_store.url)
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", front.url)
    entry = {
        "gs": {
            "service_account": json.dumps({**account, "token_uri": f"{front.url}/oauth/token"}),
            "endpoint_url": front.url,
        },
        "az": {"account_name": ACCOUNT, "tenant_id": "t", "client_id": "c", "client_secret": "s"},
    }[kind]
    credentials = Credentials.from_storage_config({**entry, "verify_ssl": "false"}, {})
    with pytest.raises(FetchError) as caught:
        await resolved(f"{kind}://bucket/m", loopback_policy, credentials)
    assert caught.value.reason is Reason.SOURCE_UNREACHABLE
    assert "certificate" in caught.value.message
    assert not wire_store.server.seen


async def test_a_service_account_s_token_service_leads_to_no_refused_address(
    wire_store: WireStore, account: dict[str, str], loopback_policy: SourcePolicy
) -> None:
    wire_store.lists(["m/file"])
    secret = json.dumps({**account, "token_uri": f"{wire_store.url}/oauth/token"})
    entry = {"service_account": secret, "endpoint_url": wire_store.url}
    for target in ("http://169.254.169.254/token", "http://127.0.0.2:1/token"):
        wire_store.fail(Fault(302, prefix="/oauth", headers={"Location": target}))
        with pytest.raises(FetchError) as caught:
            await resolved(
                "gs://bucket/m", loopback_policy, Credentials.from_storage_config(entry, {})
            )
        assert caught.value.reason is Reason.SOURCE_NOT_ALLOWED
