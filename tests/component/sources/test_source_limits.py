"""A bucket that was named by mistake, and answers that never end: refused, before the agent's memory is full."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from agent.errors import FetchError, Stalled
from agent.policy import SourcePolicy
from agent.sources import listing
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.reading import paths, resolved
from tests.support.servers.azure import ACCOUNT
from tests.support.servers.ftp import PASSWORD, USER, FtpServer
from tests.support.servers.hub import HubServer
from tests.support.servers.modelscope import ModelScopeServer
from tests.support.servers.threaded import Fault, ThreadedApp
from tests.support.servers.webhdfs import WebHdfsServer
from tests.support.servers.wire import WireStore

MOST = 20


class Answering(ThreadedApp):
    """Says the same to every request."""

    def __init__(self, body: bytes) -> None:
        super().__init__("answering")
        self.fault = Fault(200, body=body)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MOST_FILES", MOST)


def names(count: int) -> list[str]:
    return [f"m/{number // 5}/{number:03}" for number in range(count)]


def storage(type_: str, endpoint: str, **more: str) -> Credentials:
    return Credentials.from_storage_config({"type": type_, "endpoint_url": endpoint, **more}, {})


async def refused(
    uri: str, policy: SourcePolicy, credentials: Credentials | None = None
) -> FetchError:
    with pytest.raises(Stalled) as caught:
        await resolved(uri, policy, credentials)
    assert caught.value.reason is Reason.INVALID_SOURCE
    return caught.value


async def too_many(uri: str, policy: SourcePolicy, credentials: Credentials | None = None) -> None:
    error = await refused(uri, policy, credentials)
    assert error.message.startswith("sourceModelUri: ")
    assert f"more than {MOST} entries" in error.message


@pytest.mark.parametrize("kind", ["s3", "gs"])
async def test_a_bucket_of_too_many_objects_is_refused(
    kind: str, few: None, loopback_policy: SourcePolicy
) -> None:
    with WireStore(page=6) as store:
        given = storage(kind, store.url, anonymous="true")
        store.lists(names(MOST))
        assert len(paths(await resolved(f"{kind}://models/m", loopback_policy, given))) == MOST
        store.lists(names(5000))
        before = len(store.server.seen)
        await too_many(f"{kind}://models/m", loopback_policy, given)
        assert len(store.server.seen) - before < 10


async def test_a_container_of_too_many_blobs_is_refused(
    few: None, loopback_policy: SourcePolicy
) -> None:
    blobs = "".join(f"<Blob><Name>{name}</Name></Blob>" for name in names(MOST + 1))
    page = f"<EnumerationResults><Blobs>{blobs}</Blobs></EnumerationResults>"
    with Answering(page.encode()) as server:
        given = storage("az", server.url, account_name=ACCOUNT, anonymous="true")
        await too_many("az://models/m", loopback_policy, given)


async def test_hubs_folders_and_file_trees_of_too_many_files_are_refused(
    few: None, loopback_policy: SourcePolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = dict.fromkeys(names(MOST + 1), b"x")
    with HubServer(page=7) as hub:
        hub.add("org/model", files)
        policy = replace(loopback_policy, hf_endpoint=hub.endpoint)
        await too_many("hf://org/model", policy)
    with ModelScopeServer() as scope:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", scope.endpoint)
        scope.add("org/model", files)
        await too_many("modelscope://org/model", loopback_policy)
    with WebHdfsServer() as hdfs:
        for name, content in files.items():
            hdfs.put(f"/{name}", content)
        await too_many(f"webhdfs://{hdfs.place}/m", loopback_policy)
    with FtpServer() as ftp:
        for name, content in files.items():
            ftp.put(name, content)
        login = storage("ftp", "", host="127.0.0.1", username=USER, password=PASSWORD)
        policy = replace(loopback_policy, generic_schemes=frozenset({"ftp"}))
        await too_many(f"ftp://{ftp.place}/m", policy, login)
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    policy = replace(loopback_policy, allowed_file_roots=(tmp_path,))
    await too_many(f"file://{tmp_path}/m", policy)


@pytest.fixture(scope="module")
def endless() -> Iterator[Answering]:
    with Answering(b" " * (17 << 20)) as server:
        yield server


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("s3://models/m", "s3"),
        ("gs://models/m", "gs"),
        ("az://models/m", "az"),
        ("hf://org/model", "hf"),
        ("modelscope://org/model", "modelscope"),
        ("oci://registry.test/a/b:v1", "oci"),
        ("hdfs://cluster/m", "webhdfs"),
    ],
)
async def test_an_answer_that_does_not_end_is_refused(
    uri: str, kind: str, endless: Answering, loopback_policy: SourcePolicy
) -> None:
    nodes = {"HDFS_NAMENODE": endless.url} if kind == "webhdfs" else {}
    more = {"account_name": ACCOUNT} if kind == "az" else nodes
    policy = replace(loopback_policy, hf_endpoint=endless.url)
    given = storage(kind, endless.url, anonymous="true", **more)
    error = await refused(uri, policy, given)
    assert "MiB" in error.message
