"""What is replaced while it is fetched: every kind of source publishes one version of it, whole."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.copying.access import GivenCredentials
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from tests.component.sources.copying import MIB, under_way
from tests.support.servers.azure import ACCOUNT, KEY, AzureServer
from tests.support.servers.ftp import PASSWORD, USER, FtpServer
from tests.support.servers.gcs import GcsServer
from tests.support.servers.git import GitServer
from tests.support.servers.hub import HubServer
from tests.support.servers.modelscope import ModelScopeServer
from tests.support.servers.registry import LAYER, RegistryServer
from tests.support.servers.s3 import ADMIN, S3Server
from tests.support.servers.web import WebServer
from tests.support.servers.webhdfs import WebHdfsServer
from tests.support.trees import read_files

OLD, NEW = os.urandom(24 * MIB), os.urandom(24 * MIB)


@dataclass(frozen=True)
class Place:
    """put: gives the model this content. pinned: what was listed stays there to be read."""

    uri: str
    put: Callable[[bytes], object]
    entry: dict[str, str] = field(default_factory=dict)
    pinned: bool = False


@dataclass(frozen=True)
class World:
    stack: ExitStack
    request: pytest.FixtureRequest
    folder: Path


def _s3(world: World) -> Place:
    server: S3Server = world.request.getfixturevalue("s3_server")
    server.make_bucket("versions")
    return Place(
        "s3://versions/m", lambda body: server.put("versions", "m/f", body), _s3_entry(server)
    )


def _s3_entry(server: S3Server) -> dict[str, str]:
    return {
        "access_key_id": ADMIN.access_key_id,
        "secret_access_key": ADMIN.secret_access_key,
        "endpoint_url": server.endpoint,
    }


def _gs(world: World) -> Place:
    server: GcsServer = world.request.getfixturevalue("gcs_server")
    server.make_bucket("versions")
    entry = {"endpoint_url": server.endpoint, "anonymous": "true"}
    return Place("gs://versions/m", lambda body: server.put("versions", "m/f", body), entry)


def _az(world: World) -> Place:
    server: AzureServer = world.request.getfixturevalue("azure_server")
    server.make_container("versions")
    entry = {
        "endpoint_url": server.endpoint,
        "account_name": ACCOUNT,
        "account_key": KEY,
        "ca_bundle": server.authority.read_text(),
    }
    return Place("az://versions/m", lambda body: server.put("versions", "m/f", body), entry)


def _http(world: World) -> Place:
    server: WebServer = world.request.getfixturevalue("web_server")
    return Place(f"{server.url}/versions/f", lambda body: server.put("versions/f", body))


def _hf(world: World) -> Place:
    hub: HubServer = world.request.getfixturevalue("hub_server")
    entry = {"endpoint_url": hub.endpoint}
    return Place("hf://org/m", lambda body: hub.add("org/m", {"f": body}), entry, pinned=True)


def _oci(world: World) -> Place:
    server: RegistryServer = world.request.getfixturevalue("registry_server")
    name = "public/versions"

    def put(body: bytes) -> None:
        server.push_image(name, "v1", [server.layer(name, body, LAYER, title="f")])

    entry = {"endpoint_url": server.endpoint}
    return Place(f"oci://registry.test/{name}:v1", put, entry, pinned=True)


def _modelscope(world: World) -> Place:
    hub = world.stack.enter_context(ModelScopeServer())
    entry = {"endpoint_url": hub.endpoint}
    return Place(
        "modelscope://org/m", lambda body: hub.add("org/m", {"f": body}), entry, pinned=True
    )


def _webhdfs(world: World) -> Place:
    hdfs = world.stack.enter_context(WebHdfsServer())
    return Place(f"webhdfs://{hdfs.place}/m", lambda body: hdfs.put("/m/f", body))


def _git(world: World) -> Place:
    git = world.stack.enter_context(GitServer())
    uri = f"git+{git.url}/org/m.git"
    return Place(uri, lambda body: git.commit("org/m", {"f": git.keep_large(body)}), pinned=True)


def _ftp(world: World) -> Place:
    ftp = world.stack.enter_context(FtpServer())
    entry = {"type": "ftp", "host": "127.0.0.1", "username": USER, "password": PASSWORD}
    return Place(f"ftp://{ftp.place}/m", lambda body: ftp.put("m/f", body), entry)


def _file(world: World) -> Place:
    folder = world.folder / "source"
    folder.mkdir()
    return Place(f"file://{folder}", (folder / "f").write_bytes)


PLACES: dict[str, Callable[[World], Place]] = {
    "s3": _s3,
    "gs": _gs,
    "az": _az,
    "http": _http,
    "hf": _hf,
    "oci": _oci,
    "modelscope": _modelscope,
    "webhdfs": _webhdfs,
    "git": _git,
    "ftp": _ftp,
    "file": _file,
}


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, request, tmp_path)


@pytest.mark.parametrize("kind", PLACES)
async def test_what_is_replaced_meanwhile_is_published_in_one_version(
    kind: str, world: World, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    place = PLACES[kind](world)
    place.put(OLD)
    # Web and FTP servers tell versions by seconds.
    await asyncio.sleep(1.1)
    policy = replace(loopback_policy, generic_schemes=frozenset({"ftp"}))
    reader = GivenCredentials(Credentials.from_storage_config(place.entry, {}))
    async with under_way(place.uri, tmp_path / "root", policy, reader) as copy:
        await copy.reaches(6 * MIB)
        assert copy.watch.done < len(OLD)
        await asyncio.to_thread(place.put, NEW)
        outcome = await copy.task
    published = tmp_path / "root" / "models" / outcome.tree.storage_key / "f"
    # What a server has begun to send it may send to its end.
    assert published.read_bytes() in ([OLD] if place.pinned else [OLD, NEW])


@dataclass(frozen=True)
class Folder:
    """A model of several files."""

    uri: str
    put: Callable[[str, bytes], object]
    remove: Callable[[str], object]
    entry: dict[str, str] = field(default_factory=dict)


def _s3_folder(world: World) -> Folder:
    server: S3Server = world.request.getfixturevalue("s3_server")
    server.make_bucket("folders")
    return Folder(
        "s3://folders/m",
        lambda name, body: server.put("folders", f"m/{name}", body),
        lambda name: server.delete("folders", f"m/{name}"),
        _s3_entry(server),
    )


def _webhdfs_folder(world: World) -> Folder:
    hdfs = world.stack.enter_context(WebHdfsServer())
    return Folder(
        f"webhdfs://{hdfs.place}/m",
        lambda name, body: hdfs.put(f"/m/{name}", body),
        lambda name: hdfs.remove(f"/m/{name}"),
    )


def _ftp_folder(world: World) -> Folder:
    ftp = world.stack.enter_context(FtpServer())
    entry = {"type": "ftp", "host": "127.0.0.1", "username": USER, "password": PASSWORD}
    return Folder(
        f"ftp://{ftp.place}/m",
        lambda name, body: ftp.put(f"m/{name}", body),
        lambda name: (ftp.files / "m" / name).unlink(),
        entry,
    )


def _file_folder(world: World) -> Folder:
    folder = world.folder / "source"
    folder.mkdir()
    return Folder(
        f"file://{folder}",
        lambda name, body: (folder / name).write_bytes(body),
        lambda name: (folder / name).unlink(),
    )


@pytest.mark.parametrize(
    "make",
    [_s3_folder, _webhdfs_folder, _ftp_folder, _file_folder],
    ids=["s3", "webhdfs", "ftp", "file"],
)
async def test_files_that_go_and_come_meanwhile_are_planned_anew(
    make: Callable[[World], Folder], world: World, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    folder, root = make(world), tmp_path / "root"
    weights = os.urandom(16 * MIB)
    folder.put("weights", weights)
    folder.put("gone", os.urandom(8 * MIB))
    policy = replace(loopback_policy, generic_schemes=frozenset({"ftp"}))
    reader = GivenCredentials(Credentials.from_storage_config(folder.entry, {}))
    async with under_way(folder.uri, root, policy, reader) as copy:
        await copy.reaches(6 * MIB)
        await asyncio.to_thread(folder.remove, "gone")
        await asyncio.to_thread(folder.put, "new", b"n")
        outcome = await copy.task
    published = read_files(root / "models" / outcome.tree.storage_key)
    assert published == {"weights": weights, "new": b"n"}
