"""gs:// against fake-gcs-server, and against a wire-level service where the emulator is too kind."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agent.errors import FetchError, Retryable, Stalled
from agent.manifest import Algorithm, ArchiveKind, Digest
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources.access import GcsAccess
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.reading import content, get, only, opened, paths, resolved
from tests.support.processes import free_ports
from tests.support.servers.gcs import GcsServer
from tests.support.servers.threaded import Fault
from tests.support.servers.wire import Listed, WireStore


@pytest.fixture(scope="module", autouse=True)
def bucket(gcs_server: GcsServer) -> str:
    gcs_server.make_bucket("my-bucket")
    return "my-bucket"


def at(endpoint: str) -> Credentials:
    return Credentials(gcs=GcsAccess(endpoint_url=endpoint))


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def account(endpoint: str, private_key: str) -> Credentials:
    secret = {
        "type": "service_account",
        "client_email": "reader@project.iam.gserviceaccount.com",
        "private_key": private_key,
        "token_uri": f"{endpoint}/oauth/token",
    }
    entry = {"type": "gs", "service_account": json.dumps(secret), "endpoint_url": endpoint}
    return Credentials.from_storage_config(entry, {})


async def failure(uri: str, policy: SourcePolicy, credentials: Credentials) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy, credentials)
    return caught.value


async def test_the_emulator_of_the_environment_is_used(
    gcs_server: GcsServer, loopback_policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.endpoint)
    gcs_server.put("my-bucket", "my-model/config.json", b"{}")
    async with opened("gs://my-bucket/my-model", loopback_policy) as source:
        manifest = await source.resolve()
        assert paths(manifest) == ["config.json"]
        assert await content(source, manifest.files[0]) == b"{}"


async def test_a_prefix_is_a_folder_and_never_its_sibling(
    gcs_server: GcsServer, loopback_policy: SourcePolicy
) -> None:
    for name in ("sib/a/x", "sib/a/deep/y", "sib/ab/z", "sib/a.txt"):
        gcs_server.put("my-bucket", name, name.encode())
    for uri in ("gs://my-bucket/sib/a", "gs://my-bucket/sib/a/"):
        manifest = await resolved(uri, loopback_policy, at(gcs_server.endpoint))
        assert paths(manifest) == ["deep/y", "x"]


async def test_a_single_archive_is_said_to_be_one(
    gcs_server: GcsServer, loopback_policy: SourcePolicy
) -> None:
    gcs_server.put("my-bucket", "packed/m.tar.gz", b"x")
    manifest = await resolved(
        "gs://my-bucket/packed/m.tar.gz", loopback_policy, at(gcs_server.endpoint)
    )
    assert paths(manifest) == ["m.tar.gz"]
    assert manifest.archive is ArchiveKind.TAR_GZ


async def test_crc32c_and_md5_come_with_the_listing(
    gcs_server: GcsServer, loopback_policy: SourcePolicy
) -> None:
    gcs_server.put("my-bucket", "sums/file", b"123456789")
    gcs_server.put("my-bucket", "sums/empty", b"")
    manifest = await resolved("gs://my-bucket/sums", loopback_policy, at(gcs_server.endpoint))
    assert only(manifest, "file").digests == (
        Digest(Algorithm.MD5, "25f9e794323b453885f5181f1b624d0b"),
        Digest(Algorithm.CRC32C, "e3069283"),
    )
    assert only(manifest, "empty").size == 0


@pytest.mark.parametrize(
    "name", ["ünï/文件.bin", "a+b", "100%", "with space", "hash#tag", "what?", "a%2Fb", "q&a=b;c"]
)
async def test_odd_names_are_listed_and_read_as_they_are(
    gcs_server: GcsServer, loopback_policy: SourcePolicy, name: str
) -> None:
    gcs_server.put("my-bucket", f"odd/{name}", name.encode())
    async with opened("gs://my-bucket/odd", loopback_policy, at(gcs_server.endpoint)) as source:
        file = only(await source.resolve(), name)
        assert await content(source, file) == name.encode()


async def test_signed_ranges_bring_the_right_bytes(
    gcs_server: GcsServer, loopback_policy: SourcePolicy
) -> None:
    body = bytes(range(256)) * 4096
    gcs_server.put("my-bucket", "ranges/big", body)
    async with opened("gs://my-bucket/ranges", loopback_policy, at(gcs_server.endpoint)) as source:
        request = await source.sign((await source.resolve()).files[0])
        assert isinstance(request, SignedRequest)
        got = await get(request, 1000, 70_000)
        assert got.status == 206
        assert got.body == body[1000:70_000]
        assert got.kept


async def test_an_object_that_changed_is_noticed(
    gcs_server: GcsServer, loopback_policy: SourcePolicy
) -> None:
    gcs_server.put("my-bucket", "changing/file", b"first")
    async with opened(
        "gs://my-bucket/changing", loopback_policy, at(gcs_server.endpoint)
    ) as source:
        before = await source.resolve()
        gcs_server.put("my-bucket", "changing/file", b"other")
        request = await source.sign(before.files[0])
        assert isinstance(request, SignedRequest)
        got = await get(request, 0, 3)
        # The emulator serves the new one in spite of ifGenerationMatch, and says so.
        assert got.status == 412 or not got.kept
        assert (await source.resolve()).revision != before.revision


@pytest.fixture
def five_thousand(tmp_path: Path) -> Iterator[GcsServer]:
    for number in range(5000):
        folder = tmp_path / "many-bucket" / "many" / f"{number // 100:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05}").write_bytes(b"%d" % number)
    with GcsServer(preload=tmp_path) as server:
        yield server


async def test_five_thousand_small_files_are_listed_in_seconds(
    five_thousand: GcsServer, loopback_policy: SourcePolicy
) -> None:
    started = time.monotonic()
    manifest = await resolved("gs://many-bucket/many", loopback_policy, at(five_thousand.endpoint))
    assert len(manifest.files) == 5000
    assert time.monotonic() - started < 30


async def test_what_is_not_there_is_not_found(
    gcs_server: GcsServer, loopback_policy: SourcePolicy
) -> None:
    gcs_server.put("my-bucket", "there/file", b"x")
    for uri in ("gs://my-bucket/nowhere", "gs://my-bucket/there/fil", "gs://no-such-bucket/x"):
        error = await failure(uri, loopback_policy, at(gcs_server.endpoint))
        assert isinstance(error, Stalled)
        assert error.reason is Reason.SOURCE_NOT_FOUND


async def test_a_service_account_signs_in_and_its_token_goes_with_each_request(
    wire_store: WireStore, loopback_policy: SourcePolicy, private_key: str
) -> None:
    wire_store.token = "ya29.canary-token"
    wire_store.lists(["m/file"])
    credentials = account(wire_store.url, private_key)
    async with opened("gs://bucket/m", loopback_policy, credentials) as source:
        manifest = await source.resolve()
        request = await source.sign(manifest.files[0])
        assert isinstance(request, SignedRequest)
        assert request.headers == {"authorization": "Bearer ya29.canary-token"}
        assert "canary" not in repr(request)
        assert request.expires_in is not None
        assert 60 <= request.expires_in < 3600
        assert "ifGenerationMatch=17" in request.url


async def test_a_short_lived_token_is_renewed(
    wire_store: WireStore, loopback_policy: SourcePolicy, private_key: str
) -> None:
    wire_store.token, wire_store.token_seconds = "first", 120
    wire_store.lists(["m/file"])
    async with opened(
        "gs://bucket/m", loopback_policy, account(wire_store.url, private_key)
    ) as source:
        manifest = await source.resolve()
        wire_store.token = "second"
        request = await source.sign(manifest.files[0])
        assert isinstance(request, SignedRequest)
        assert request.headers == {"authorization": "Bearer second"}


async def test_while_a_token_is_good_signing_waits_for_nothing(
    wire_store: WireStore, loopback_policy: SourcePolicy, private_key: str
) -> None:
    wire_store.lists(["m/file"])
    for credentials in (account(wire_store.url, private_key), at(wire_store.url)):
        async with opened("gs://bucket/m", loopback_policy, credentials) as source:
            manifest = await source.resolve()
            # It ends at its first step, without an await that another task could come in at.
            with pytest.raises(StopIteration) as ended:
                source.sign(manifest.files[0]).__await__().__next__()
            assert isinstance(ended.value.value, SignedRequest)


async def test_a_refused_service_account_stalls(
    wire_store: WireStore, loopback_policy: SourcePolicy, private_key: str
) -> None:
    wire_store.token = None
    error = await failure("gs://bucket/m", loopback_policy, account(wire_store.url, private_key))
    assert isinstance(error, Stalled)
    assert error.reason is Reason.ACCESS_DENIED
    assert "PRIVATE" not in error.message


async def test_who_may_list_but_not_read_is_denied(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.lists(["m/file"])
    wire_store.fail(Fault(403, prefix="/storage/v1/b/bucket/o/"))
    error = await failure("gs://bucket/m", loopback_policy, at(wire_store.url))
    assert error.reason is Reason.ACCESS_DENIED


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(401), Reason.ACCESS_DENIED),
        (Fault(403), Reason.ACCESS_DENIED),
        (Fault(404), Reason.SOURCE_NOT_FOUND),
        (Fault(429, headers={"Retry-After": "9"}), Reason.SOURCE_THROTTLED),
        (Fault(503, headers={"Retry-After": "9"}), Reason.SOURCE_THROTTLED),
        (Fault(500), Reason.SOURCE_ERROR),
        (Fault(200, body=b"<html>"), Reason.SOURCE_ERROR),
    ],
)
async def test_each_refusal_has_its_reason(
    wire_store: WireStore, loopback_policy: SourcePolicy, fault: Fault, reason: Reason
) -> None:
    wire_store.fail(fault)
    error = await failure("gs://bucket/m", loopback_policy, at(wire_store.url))
    assert error.reason is reason
    if reason is Reason.SOURCE_THROTTLED:
        assert isinstance(error, Retryable)
        assert error.after == 9


async def test_nobody_at_the_endpoint_is_worth_another_try(loopback_policy: SourcePolicy) -> None:
    (port,) = free_ports(1)
    error = await failure("gs://bucket/m", loopback_policy, at(f"http://127.0.0.1:{port}"))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNREACHABLE


async def test_loopback_is_refused_where_nobody_allowed_it(gcs_server: GcsServer) -> None:
    for endpoint in (gcs_server.endpoint, gcs_server.endpoint.replace("127.0.0.1", "localhost")):
        error = await failure("gs://my-bucket/x", SourcePolicy(), at(endpoint))
        assert error.reason is Reason.SOURCE_NOT_ALLOWED


@pytest.mark.parametrize(
    "names", [["m/../up"], ["m//abs"], ["m/nul\x00"], ["m/a", "m/a/b"], ["m/twice", "m/twice"]]
)
async def test_names_that_no_folder_can_hold_are_refused(
    wire_store: WireStore, loopback_policy: SourcePolicy, names: list[str]
) -> None:
    wire_store.lists(["m/fine", *names])
    error = await failure("gs://bucket/m", loopback_policy, at(wire_store.url))
    assert error.reason is Reason.UNSAFE_PATH


async def test_pages_are_followed_and_compressed_objects_have_no_known_size(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.page = 7
    names: list[str | Listed] = [f"m/{number:03}" for number in range(50)]
    wire_store.lists([*names, Listed("m/zipped", head={"contentEncoding": "gzip"})])
    manifest = await resolved("gs://bucket/m", loopback_policy, at(wire_store.url))
    assert len(manifest.files) == 51
    assert only(manifest, "zipped").size is None
    assert manifest.size is None
