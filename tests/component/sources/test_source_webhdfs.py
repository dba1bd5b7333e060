"""webhdfs:// against a name node and a data node on the wire."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.manifest import Algorithm, Strength
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.copying import MIB, copied, interrupted
from tests.component.sources.reading import only, opened, paths, resolved
from tests.support.processes import free_ports
from tests.support.servers.threaded import Fault
from tests.support.servers.webhdfs import DELEGATION, WebHdfsServer

FILES = {
    "config.json": b"{}",
    "w\u00fc/a b+c%.bin": os.urandom(3 * MIB),
    "d/e/deep": b"deep",
    "empty": b"",
}


@pytest.fixture
def hdfs() -> Iterator[WebHdfsServer]:
    with WebHdfsServer() as server:
        yield server


def secret(**values: str) -> Credentials:
    """KServe's keys."""
    return Credentials.from_secret({key: value.encode() for key, value in values.items()}, {})


async def failure(
    uri: str, policy: SourcePolicy, credentials: Credentials | None = None
) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy, credentials)
    assert "canary" not in caught.value.message
    return caught.value


async def test_a_folder_is_published_and_said_to_be_verified_by_size_alone(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    hdfs.fill("/models/m", FILES)
    hdfs.put("/models/m2/sibling", b"x")
    done = await copied(f"webhdfs://{hdfs.place}/models/m", tmp_path, loopback_policy)
    assert done.files == FILES
    assert done.tree.verified_by is Strength.SIZE
    assert done.tree.revision.startswith("listing-")


async def test_composite_checksums_of_the_cluster_verify_content(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    hdfs.composite = True
    hdfs.fill("/m", {"a": b"123456789", "b": os.urandom(5000)})
    uri = f"webhdfs://{hdfs.place}/m"
    manifest = await resolved(uri, loopback_policy)
    (digest,) = only(manifest, "a").digests
    assert (digest.algorithm, digest.value) == (Algorithm.CRC32C, "e3069283")
    done = await copied(uri, tmp_path, loopback_policy)
    assert done.tree.verified_by is Strength.CRC32C
    hdfs.lies["/m/b"] = os.urandom(5000)
    with pytest.raises(Stalled) as caught:
        await copied(uri, tmp_path / "other", loopback_policy)
    assert caught.value.reason is Reason.CHECKSUM_MISMATCH


async def test_a_single_file_is_one_model(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy
) -> None:
    hdfs.put("/models/model.bin", b"x")
    manifest = await resolved(f"webhdfs://{hdfs.place}/models/model.bin", loopback_policy)
    assert paths(manifest) == ["model.bin"]


async def test_an_interrupted_copy_goes_on_where_it_was(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    body = os.urandom(16 * MIB)
    hdfs.put("/m/model.bin", body)
    uri = f"webhdfs://{hdfs.place}/m"
    await interrupted(uri, tmp_path, loopback_policy, None, after=8 * MIB)
    done = await copied(uri, tmp_path, loopback_policy)
    assert done.files == {"model.bin": body}
    assert done.moved <= 12 * MIB


async def test_a_data_node_that_sends_something_else_is_worth_another_try(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    hdfs.put("/m/model.bin", os.urandom(3 * MIB))
    hdfs.ignores_offset = True
    with pytest.raises(FetchError) as caught:
        await copied(f"webhdfs://{hdfs.place}/m", tmp_path, loopback_policy)
    assert isinstance(caught.value, Retryable)


async def test_a_file_that_was_replaced_is_noticed_before_it_is_read(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy
) -> None:
    hdfs.put("/m/file", b"first")
    async with opened(f"webhdfs://{hdfs.place}/m", loopback_policy) as source:
        before = await source.resolve()
        hdfs.put("/m/file", b"other")
        with pytest.raises(SourceChanged):
            await source.sign(before.files[0])
        assert (await source.resolve()).revision != before.revision


@pytest.mark.parametrize("scheme", ["webhdfs", "hdfs"])
async def test_with_a_name_node_in_the_secret_the_uri_is_a_path_as_kserve_takes_it(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy, scheme: str
) -> None:
    hdfs.fill("/user/me/model", {"a": b"1"})
    found = secret(HDFS_NAMENODE=hdfs.url)
    assert paths(await resolved(f"{scheme}://user/me/model", loopback_policy, found)) == ["a"]
    rooted = secret(HDFS_NAMENODE=hdfs.url, HDFS_ROOTPATH="/user")
    assert paths(await resolved(f"{scheme}://me/model", loopback_policy, rooted)) == ["a"]


async def test_the_name_node_that_is_active_is_asked(loopback_policy: SourcePolicy) -> None:
    with WebHdfsServer(standby=True) as waiting, WebHdfsServer() as active:
        active.put("/m/a", b"1")
        dead = f"http://127.0.0.1:{free_ports(1)[0]}"
        found = secret(HDFS_NAMENODE=f"{dead};{waiting.url};{active.url}", USER_PROXY="me")
        assert paths(await resolved("webhdfs://m", loopback_policy, found)) == ["a"]
        assert "user.name=me" in active.names.seen[-1].query
        active.standby = True
        error = await failure("webhdfs://m", loopback_policy, found)
        assert isinstance(error, Retryable)


async def test_a_delegation_token_opens_what_is_private_and_goes_nowhere_else(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    hdfs.put("/private/m/a", b"1")
    found = secret(HDFS_NAMENODE=hdfs.url, HDFS_DELEGATION_TOKEN=DELEGATION)
    done = await copied("webhdfs://private/m", tmp_path, loopback_policy, found)
    assert done.files == {"a": b"1"}
    error = await failure("webhdfs://private/m", loopback_policy, secret(HDFS_NAMENODE=hdfs.url))
    assert error.reason is Reason.ACCESS_DENIED
    unbound = secret(HDFS_DELEGATION_TOKEN=DELEGATION)
    error = await failure("webhdfs://evil.example:9870/m", loopback_policy, unbound)
    assert error.reason is Reason.SOURCE_NOT_ALLOWED


async def test_headers_of_the_secret_stay_with_the_name_node(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    hdfs.put("/m/a", b"1")
    found = secret(HDFS_NAMENODE=hdfs.url, HEADERS='{"X-Gateway-Key": "canary"}')
    await copied("webhdfs://m", tmp_path, loopback_policy, found)
    assert all(one.headers["x-gateway-key"] == "canary" for one in hdfs.names.seen)
    elsewhere = f"{hdfs.data.url}/webhdfs/v1/m/a"
    hdfs.fail(Fault(307, headers={"Location": elsewhere}))
    await failure("webhdfs://m", loopback_policy, found)
    assert len(hdfs.data.seen) > 1
    assert not any("canary" in one.headers.values() for one in hdfs.data.seen)


async def test_what_is_not_supported_is_named(loopback_policy: SourcePolicy) -> None:
    error = await failure(
        "hdfs://user/me", loopback_policy, secret(HDFS_NAMENODE="http://nn", KERBEROS_PRINCIPAL="p")
    )
    assert error.reason is Reason.CREDENTIALS_INVALID
    assert "KERBEROS_PRINCIPAL" in error.message
    assert "HDFS_NAMENODE" in (await failure("hdfs://nn/me", loopback_policy)).message


async def test_what_is_not_there_is_not_found(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy
) -> None:
    hdfs.put("/m/a", b"1")
    error = await failure(f"webhdfs://{hdfs.place}/nowhere", loopback_policy)
    assert isinstance(error, Stalled)
    assert error.reason is Reason.SOURCE_NOT_FOUND


@pytest.mark.parametrize("name", ["../up", "..", "../evil/", "a/../b", "nul\x00", "b\\c", ""])
async def test_names_that_no_folder_can_hold_are_refused_before_they_are_followed(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy, name: str
) -> None:
    hdfs.put("/m/fine", b"1")
    hdfs.listed["/m"] = [name]
    error = await failure(f"webhdfs://{hdfs.place}/m", loopback_policy)
    assert error.reason is Reason.UNSAFE_PATH
    assert all("evil" not in one.path for one in hdfs.names.seen)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(401), Reason.ACCESS_DENIED),
        (Fault(403), Reason.ACCESS_DENIED),
        (Fault(429, headers={"Retry-After": "9"}), Reason.SOURCE_THROTTLED),
        (Fault(500), Reason.SOURCE_ERROR),
        (Fault(200, body=b"<html>"), Reason.SOURCE_ERROR),
        (Fault(200, body=b"{}"), Reason.SOURCE_ERROR),
        (Fault(302, headers={"Location": "http://169.254.169.254/"}), Reason.SOURCE_NOT_ALLOWED),
    ],
)
async def test_each_trouble_has_its_reason(
    hdfs: WebHdfsServer, loopback_policy: SourcePolicy, fault: Fault, reason: Reason
) -> None:
    hdfs.fail(fault)
    error = await failure(f"webhdfs://{hdfs.place}/m", loopback_policy)
    assert error.reason is reason


async def test_loopback_is_refused_where_nobody_allowed_it(hdfs: WebHdfsServer) -> None:
    error = await failure(f"webhdfs://{hdfs.place}/m", SourcePolicy())
    assert error.reason is Reason.SOURCE_NOT_ALLOWED
