"""A file behind TLS at every kind of source, for tests of who is trusted and of how one gets there."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from secrets import token_hex

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.sources.credentials import Credentials
from tests.support.certificates import ServerFiles
from tests.support.servers.azure import ACCOUNT, KEY, AzureServer
from tests.support.servers.gcs import GcsServer
from tests.support.servers.git import GitServer
from tests.support.servers.hub import HubServer
from tests.support.servers.modelscope import ModelScopeServer
from tests.support.servers.registry import LAYER, RegistryServer
from tests.support.servers.s3 import ADMIN, S3Server
from tests.support.servers.web import WebServer
from tests.support.servers.webhdfs import WebHdfsServer
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


def _fresh() -> str:
    return f"behind-tls-{token_hex(4)}"


def _s3(world: World) -> Place:
    server: S3Server = world.request.getfixturevalue("s3_server")
    bucket = _fresh()
    server.make_bucket(bucket)
    server.put(bucket, "m/file", CONTENT)
    keys = {
        "access_key_id": ADMIN.access_key_id,
        "secret_access_key": ADMIN.secret_access_key,
        "endpoint_url": world.front(server.endpoint).url,
    }
    return world.place(f"s3://{bucket}/m", keys)


def _gs(world: World) -> Place:
    server: GcsServer = world.request.getfixturevalue("gcs_server")
    bucket = _fresh()
    server.make_bucket(bucket)
    server.put(bucket, "m/file", CONTENT)
    endpoint = world.front(server.endpoint).url
    return world.place(f"gs://{bucket}/m", {"endpoint_url": endpoint, "anonymous": "true"})


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
    container = _fresh()
    server.make_container(container)
    server.put(container, "m/file", CONTENT)
    entry = {"endpoint_url": server.endpoint, "account_name": ACCOUNT, "account_key": KEY}
    return Place(f"az://{container}/m", entry, server.authority)


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


@cache
def _key() -> str:
    return (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


def service_account(tokens: str) -> str:
    """Google's JSON of one whose token service is a `WireStore` at that URL."""
    return json.dumps(
        {
            "type": "service_account",
            "client_email": "reader@project.iam.gserviceaccount.com",
            "private_key": _key(),
            "token_uri": f"{tokens}/oauth/token",
        }
    )
