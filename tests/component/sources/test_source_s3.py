"""s3:// against a real server with signatures on."""

import hashlib
import time
from dataclasses import replace
from ipaddress import ip_network

import pytest
from botocore.exceptions import ClientError

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.manifest import Algorithm, ArchiveKind, Digest
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources.access import S3Access
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.reading import content, get, only, opened, paths, resolved
from tests.support.processes import free_ports
from tests.support.servers.s3 import ADMIN, NOBODY, READER, Keys, S3Server, client
from tests.support.servers.threaded import Fault, ThreadedApp
from tests.support.servers.wire import ETAG, Listed, WireStore


def keys(endpoint: str, keys: Keys = READER) -> Credentials:
    return Credentials(
        s3=S3Access(keys.access_key_id, keys.secret_access_key, endpoint_url=endpoint), named=True
    )


async def failure(uri: str, policy: SourcePolicy, credentials: Credentials) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy, credentials)
    message = str(caught.value)
    for secret in ("canary", "Signature=", "X-Amz"):
        assert secret not in message
    return caught.value


async def test_a_prefix_is_a_folder_and_never_its_sibling(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    for key in ("sib/a/x", "sib/a/deep/y", "sib/ab/z", "sib/a.txt"):
        s3_server.put("models", key, key.encode())
    for uri in ("s3://models/sib/a", "s3://models/sib/a/"):
        manifest = await resolved(uri, loopback_policy, keys(s3_server.endpoint))
        assert paths(manifest) == ["deep/y", "x"]
        assert manifest.uri == uri
        assert not manifest.pinned


async def test_a_single_object_is_taken_under_its_own_name(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    s3_server.put("models", "one/model.bin", b"weights")
    s3_server.put("models", "one/model.bin.sig", b"sibling")
    async with opened(
        "s3://models/one/model.bin", loopback_policy, keys(s3_server.endpoint)
    ) as source:
        manifest = await source.resolve()
        assert paths(manifest) == ["model.bin"]
        assert manifest.archive is None
        assert await content(source, manifest.files[0]) == b"weights"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("m.tar", ArchiveKind.TAR),
        ("m.tar.gz", ArchiveKind.TAR_GZ),
        ("m.TGZ", ArchiveKind.TAR_GZ),
        ("m.zip", ArchiveKind.ZIP),
    ],
)
async def test_a_single_archive_is_said_to_be_one(
    s3_server: S3Server, loopback_policy: SourcePolicy, name: str, kind: ArchiveKind
) -> None:
    s3_server.put("models", f"packed/{name}", b"not really")
    manifest = await resolved(
        f"s3://models/packed/{name}", loopback_policy, keys(s3_server.endpoint)
    )
    assert manifest.archive is kind


async def test_folder_markers_are_skipped_and_empty_files_kept(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    s3_server.put("models", "marks/", b"")
    s3_server.put("models", "marks/sub/", b"")
    s3_server.put("models", "marks/sub/empty", b"")
    s3_server.put("models", "marks/full", b"abc")
    async with opened("s3://models/marks", loopback_policy, keys(s3_server.endpoint)) as source:
        manifest = await source.resolve()
        assert paths(manifest) == ["full", "sub/empty"]
        assert only(manifest, "sub/empty").size == 0
        assert await content(source, only(manifest, "sub/empty")) == b""


@pytest.mark.parametrize(
    "name",
    [
        "ünï/文件.bin",
        "a+b",
        "100%",
        "with space",
        "hash#tag",
        "what?",
        "a%2Fb",
        "q&a=b;c",
        "~!*'()@:$,",
    ],
)
async def test_odd_keys_are_listed_and_read_as_they_are(
    s3_server: S3Server, loopback_policy: SourcePolicy, name: str
) -> None:
    s3_server.put("models", f"odd/{name}", name.encode())
    async with opened("s3://models/odd", loopback_policy, keys(s3_server.endpoint)) as source:
        file = only(await source.resolve(), name)
        assert await content(source, file) == name.encode()


async def test_signed_ranges_bring_the_right_bytes(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    body = bytes(range(256)) * 4096
    s3_server.put("models", "ranges/big", body)
    async with opened("s3://models/ranges", loopback_policy, keys(s3_server.endpoint)) as source:
        manifest = await source.resolve()
        request = await source.sign(manifest.files[0])
        assert isinstance(request, SignedRequest)
        assert request.expires_in is not None
        assert 600 < request.expires_in < 3600
        for start, end in ((0, 10), (1000, 70_000), (len(body) - 3, len(body))):
            got = await get(request, start, end)
            assert got.status == 206
            assert got.body == body[start:end]
            assert got.kept


async def test_an_object_that_changed_is_refused(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    s3_server.put("models", "changing/file", b"first")
    async with opened("s3://models/changing", loopback_policy, keys(s3_server.endpoint)) as source:
        before = await source.resolve()
        s3_server.put("models", "changing/file", b"other")
        request = await source.sign(before.files[0])
        assert isinstance(request, SignedRequest)
        assert (await get(request, 0, 3)).status == 412
        after = await source.resolve()
        assert after.revision != before.revision


async def test_the_revision_names_the_content_not_the_time(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    for name in ("a", "b"):
        s3_server.put("models", f"rev/{name}", name.encode())
    first = await resolved("s3://models/rev", loopback_policy, keys(s3_server.endpoint))
    s3_server.put("models", "rev/a", b"a")
    assert await resolved("s3://models/rev", loopback_policy, keys(s3_server.endpoint)) == first
    s3_server.delete("models", "rev/b")
    later = await resolved("s3://models/rev", loopback_policy, keys(s3_server.endpoint))
    assert later.revision != first.revision


async def test_checksums_and_md5_are_known_before_the_first_byte(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    for name in ("SHA256", "CRC64NVME", "CRC32"):
        s3_server.put("models", f"sums/{name}", b"content", ChecksumAlgorithm=name)
    s3_server.put_parts("models", "sums/parts", [b"p" * (5 << 20), b"q"])
    manifest = await resolved("s3://models/sums", loopback_policy, keys(s3_server.endpoint))
    algorithms = {
        file.path: [digest.algorithm for digest in file.digests] for file in manifest.files
    }
    assert algorithms["SHA256"] == [Algorithm.SHA256, Algorithm.MD5]
    assert algorithms["CRC64NVME"] == [Algorithm.MD5, Algorithm.CRC64NVME]
    assert Algorithm.CRC32 in algorithms["CRC32"]
    assert Algorithm.MD5 not in algorithms["parts"]
    sha256 = only(manifest, "SHA256").digests[0]
    assert sha256.value == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"


async def test_five_thousand_small_files_are_listed_in_seconds(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    s3_server.put_many("models", {f"many/{n // 100:02}/{n:05}": b"%d" % n for n in range(5000)})
    started = time.monotonic()
    manifest = await resolved("s3://models/many", loopback_policy, keys(s3_server.endpoint))
    assert len(manifest.files) == 5000
    assert manifest.size == sum(len(str(number)) for number in range(5000))
    # Two cores, shared with the server and other tests; one HEAD each would take a multiple.
    assert time.monotonic() - started < 30


async def test_small_files_beyond_the_first_state_their_digest_with_their_bytes(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    small = {f"some/{n:03}": b"%07d " % n * (9 << 10) for n in range(150)}
    tiny = {f"some/tiny-{n:02}": b"content %d" % n for n in range(20)}
    s3_server.put_many("models", small | tiny)
    async with opened("s3://models/some", loopback_policy, keys(s3_server.endpoint)) as source:
        manifest = await source.resolve()
        unasked = [file for file in manifest.files if not file.digests]
        assert len(unasked) == 50 + len(tiny)
        assert all(file in unasked for file in manifest.files if "tiny" in file.path)
        request = await source.sign(unasked[-1])
        assert isinstance(request, SignedRequest)
        assert request.states is not None
        asked = await source.sign(next(file for file in manifest.files if file.digests))
        assert isinstance(asked, SignedRequest)
        assert asked.states is None
    got = await get(request)
    assert got.status == 200
    md5 = hashlib.md5(got.body, usedforsecurity=False).hexdigest()
    assert request.states(got.headers) == (Digest(Algorithm.MD5, md5),)


async def test_a_public_bucket_needs_no_credentials(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    s3_server.put("public", "free/file", b"for all")
    anonymous = Credentials(s3=S3Access(endpoint_url=s3_server.endpoint, anonymous=True))
    async with opened("s3://public/free", loopback_policy, anonymous) as source:
        manifest = await source.resolve()
        request = await source.sign(manifest.files[0])
        assert isinstance(request, SignedRequest)
        assert request.expires_in is None
        assert "?" not in request.url
        assert await content(source, manifest.files[0]) == b"for all"


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        (NOBODY, Reason.ACCESS_DENIED),
        (Keys("UNKNOWN", "canary-unknown"), Reason.ACCESS_DENIED),
        (Keys(READER.access_key_id, "canary-wrong"), Reason.ACCESS_DENIED),
    ],
)
async def test_wrong_credentials_stall_with_a_reason(
    s3_server: S3Server, loopback_policy: SourcePolicy, who: Keys, reason: Reason
) -> None:
    s3_server.put("models", "closed/file", b"x")
    error = await failure("s3://models/closed", loopback_policy, keys(s3_server.endpoint, who))
    assert isinstance(error, Stalled)
    assert error.reason is reason
    assert "s3://models/closed" in error.message


async def test_what_is_not_there_is_not_found(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    s3_server.put("models", "there/file", b"x")
    for uri in ("s3://models/nowhere", "s3://models/there/fil", "s3://no-such-bucket/x"):
        error = await failure(uri, loopback_policy, keys(s3_server.endpoint, ADMIN))
        assert isinstance(error, Stalled)
        assert error.reason is Reason.SOURCE_NOT_FOUND


async def test_a_prefix_with_markers_only_is_empty(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    s3_server.put("models", "hollow/", b"")
    error = await failure("s3://models/hollow", loopback_policy, keys(s3_server.endpoint))
    assert error.reason is Reason.SOURCE_EMPTY


async def test_nobody_at_the_endpoint_is_worth_another_try(loopback_policy: SourcePolicy) -> None:
    (port,) = free_ports(1)
    error = await failure("s3://models/x", loopback_policy, keys(f"http://127.0.0.1:{port}"))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNREACHABLE


async def test_a_busy_store_says_when_to_come_back(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.fail(Fault(503, headers={"Retry-After": "17"}))
    error = await failure("s3://models/x", loopback_policy, keys(wire_store.url))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_THROTTLED
    assert error.after == 17


async def test_a_broken_store_is_worth_another_try(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.fail(Fault(500))
    error = await failure("s3://models/x", loopback_policy, keys(wire_store.url))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_ERROR


async def test_an_error_that_comes_with_200_is_asked_again_and_then_told(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.lists(["m/file"])
    wire_store.fail(Fault(200, body=b"<Error><Code>InternalError</Code></Error>", times=1))
    manifest = await resolved("s3://bucket/m", loopback_policy, keys(wire_store.url))
    assert len(manifest.files) == 1
    wire_store.fail(Fault(200, body=b"<Error><Code>AccessDenied</Code></Error>"))
    error = await failure("s3://bucket/m", loopback_policy, keys(wire_store.url))
    assert error.reason is Reason.ACCESS_DENIED


@pytest.mark.parametrize("namespace", ["", "http://s3.amazonaws.com/doc/2006-03-01/", "urn:other"])
async def test_a_page_is_read_whatever_its_namespace_but_never_a_part_of_it(
    wire_store: WireStore, loopback_policy: SourcePolicy, namespace: str
) -> None:
    page = (
        f'<?xml version="1.0"?><ListBucketResult xmlns="{namespace}"><EncodingType>url</EncodingType>'
        "<IsTruncated>false</IsTruncated><Contents><Key>m/a%20b%2Bc</Key><Size>0</Size><ETag>&quot;e&quot;</ETag>"
        "<Owner><ID>1</ID></Owner></Contents></ListBucketResult>"
    ).encode()
    wire_store.fail(Fault(200, body=page))
    manifest = await resolved("s3://bucket/m", loopback_policy, keys(wire_store.url))
    assert [(file.path, file.validator) for file in manifest.files] == [("a b+c", '"e"')]
    wire_store.fail(Fault(200, body=page[:-1]))
    error = await failure("s3://bucket/m", loopback_policy, keys(wire_store.url))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_ERROR


@pytest.mark.parametrize(
    "object_", ["", "<Size>1</Size>", "<Key>m/a</Key>", "<Key>m/a</Key><Size>-1</Size>"]
)
async def test_an_object_without_a_name_or_a_size_is_not_s3s(
    wire_store: WireStore, loopback_policy: SourcePolicy, object_: str
) -> None:
    page = f"<ListBucketResult><Contents>{object_}</Contents></ListBucketResult>"
    wire_store.fail(Fault(200, body=page.encode()))
    error = await failure("s3://bucket/m", loopback_policy, keys(wire_store.url))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_ERROR


async def test_something_that_is_no_s3_is_said_to_be_none(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.fail(Fault(200, body=b"<html>a login page"))
    error = await failure("s3://models/x", loopback_policy, keys(wire_store.url))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_ERROR
    assert "login" not in error.message


async def test_loopback_is_refused_where_nobody_allowed_it(s3_server: S3Server) -> None:
    for endpoint in (s3_server.endpoint, s3_server.endpoint.replace("127.0.0.1", "localhost")):
        error = await failure("s3://models/x", SourcePolicy(), keys(endpoint))
        assert isinstance(error, Stalled)
        assert error.reason is Reason.SOURCE_NOT_ALLOWED


@pytest.mark.parametrize(
    "names",
    [
        ["m/../etc/passwd"],
        ["m//absolute"],
        ["m/a/./b"],
        ["m/nul\x00byte"],
        ["m/line\nbreak"],
        ["m/back\\slash"],
        ["m/" + "x" * 256],
        ["m/a", "m/a/b"],
        ["m/twice", "m/twice"],
    ],
)
async def test_keys_that_no_folder_can_hold_are_refused(
    wire_store: WireStore, loopback_policy: SourcePolicy, names: list[str]
) -> None:
    wire_store.lists(["m/fine", *names])
    error = await failure("s3://bucket/m", loopback_policy, keys(wire_store.url))
    assert isinstance(error, Stalled)
    assert error.reason is Reason.UNSAFE_PATH
    assert "entry" in error.message


async def test_pages_are_followed_to_the_end(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.page = 7
    wire_store.lists([f"m/{number:03}" for number in range(50)])
    manifest = await resolved("s3://bucket/m", loopback_policy, keys(wire_store.url))
    assert len(manifest.files) == 50


async def test_an_object_encrypted_with_a_key_of_its_own_has_no_md5(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.lists(
        [
            Listed("m/kms", head={"x-amz-server-side-encryption": "aws:kms"}),
            Listed("m/plain", head={"x-amz-server-side-encryption": "AES256"}),
            Listed(
                "m/composite",
                etag='"0123-2"',
                head={"x-amz-checksum-crc32c": "AAAAAA==-2", "x-amz-checksum-type": "COMPOSITE"},
            ),
        ]
    )
    manifest = await resolved("s3://bucket/m", loopback_policy, keys(wire_store.url))
    assert only(manifest, "kms").digests == ()
    assert only(manifest, "composite").digests == ()
    assert [digest.value for digest in only(manifest, "plain").digests] == [ETAG.strip('"')]


async def test_an_object_that_changes_while_it_is_listed_is_noticed(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.lists([Listed("m/file", head={"ETag": '"ffffffffffffffffffffffffffffffff"'})])
    error = await failure("s3://bucket/m", loopback_policy, keys(wire_store.url))
    assert isinstance(error, SourceChanged)


def test_the_server_really_checks_signatures(s3_server: S3Server) -> None:
    wrong = client(s3_server.endpoint, Keys(READER.access_key_id, "canary-wrong"))
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        wrong.list_objects_v2(Bucket="models")
    wrong.close()


async def test_a_custom_authority_is_trusted_for_listing_and_bytes(
    s3_server: S3Server, loopback_policy: SourcePolicy
) -> None:
    s3_server.put("models", "tls/file", b"over TLS")
    for bundle in (str(s3_server.authority), s3_server.authority.read_text()):
        entry = {
            "access_key_id": READER.access_key_id,
            "secret_access_key": READER.secret_access_key,
            "endpoint_url": s3_server.tls_endpoint,
            "ca_bundle": bundle,
        }
        credentials = Credentials.from_storage_config(entry, {})
        async with opened("s3://models/tls", loopback_policy, credentials) as source:
            file = (await source.resolve()).files[0]
            assert await content(source, file) == b"over TLS"
    error = await failure(
        "s3://models/tls",
        loopback_policy,
        Credentials.from_storage_config(entry | {"ca_bundle": ""}, {}),
    )
    assert isinstance(error, Retryable)
    assert "certificate" in error.message
    unverified = Credentials.from_storage_config(entry | {"ca_bundle": "", "verify_ssl": "0"}, {})
    async with opened("s3://models/tls", loopback_policy, unverified) as source:
        assert await content(source, (await source.resolve()).files[0]) == b"over TLS"


async def test_the_agents_own_identity_is_used_when_nothing_is_named(
    s3_server: S3Server, loopback_policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.put("models", "own/file", b"x")
    s3_server.put("public", "own/file", b"x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    # Nobody's identity: what is public can be had, and nothing else.
    assert paths(await resolved("s3://public/own", loopback_policy)) == ["file"]
    error = await failure("s3://models/own", loopback_policy, Credentials())
    assert error.reason is Reason.ACCESS_DENIED
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER.secret_access_key)
    async with opened("s3://models/own", loopback_policy) as source:
        assert await content(source, (await source.resolve()).files[0]) == b"x"


async def test_an_endpoint_that_a_user_names_gets_nobodys_keys(
    wire_store: WireStore, loopback_policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER.secret_access_key)
    wire_store.lists(["m/file"])
    theirs = {"endpoint_url": wire_store.url}
    own = Credentials.from_storage_config({}, theirs)
    assert paths(await resolved("s3://bucket/m", loopback_policy, own)) == ["file"]
    for seen in wire_store.server.seen:
        assert "authorization" not in seen.headers
        assert "X-Amz" not in seen.query
    stored = keys("https://ours.example").with_parameters(theirs)
    error = await failure("s3://bucket/m", loopback_policy, stored)
    assert error.reason is Reason.SOURCE_NOT_ALLOWED


async def test_an_object_deleted_while_it_is_listed_is_noticed(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.lists(["m/file"])
    wire_store.fail(Fault(404, prefix="/bucket/m/file"))
    error = await failure("s3://bucket/m", loopback_policy, keys(wire_store.url))
    assert isinstance(error, SourceChanged)


async def test_the_buckets_own_region_is_found_and_signed_for(
    wire_store: WireStore, loopback_policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", wire_store.url)
    wire_store.region = "eu-south-2"
    wire_store.lists(["m/file"])
    given = Credentials(s3=S3Access(READER.access_key_id, READER.secret_access_key), named=True)
    async with opened("s3://bucket/m", loopback_policy, given) as source:
        request = await source.sign((await source.resolve()).files[0])
        assert isinstance(request, SignedRequest)
        assert "%2Feu-south-2%2Fs3%2F" in request.url


async def test_a_redirect_that_names_no_region_is_followed_once(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    for status in (301, 302, 307):
        wire_store.fail(Fault(status, headers={"Location": "/elsewhere"}))
        before = len(wire_store.server.seen)
        error = await failure("s3://models/m", loopback_policy, keys(wire_store.url))
        assert error.reason is Reason.INVALID_SOURCE
        assert len(wire_store.server.seen) - before < 5


async def test_a_redirect_to_an_address_that_is_refused_is_not_followed(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    elsewhere = ThreadedApp("elsewhere", address="127.0.0.2")
    elsewhere.start()
    try:
        wire_store.fail(Fault(302, headers={"Location": f"{elsewhere.url}/latest/meta-data"}))
        narrow = replace(loopback_policy, allowed_networks=(ip_network("127.0.0.1/32"),))
        await failure("s3://models/m", narrow, keys(wire_store.url))
        assert not elsewhere.seen
    finally:
        elsewhere.stop()


async def test_an_answer_that_is_not_s3s_is_told(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.fail(Fault(200, body=b"<html>"))
    error = await failure("s3://models/m", loopback_policy, keys(wire_store.url))
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_ERROR
