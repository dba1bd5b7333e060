"""http:// and https:// against nginx, and against answers that nginx does not give."""

from base64 import b64encode
from hashlib import sha256

import pytest

from agent.errors import FetchError, Retryable, Stalled
from agent.manifest import Algorithm, ArchiveKind, Digest
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources.web import Web
from agent.tls import Tls
from shared.domain.reasons import Reason
from tests.component.sources.reading import content, get, opened, resolved
from tests.support.processes import free_ports
from tests.support.servers.threaded import Fault
from tests.support.servers.web import WebServer
from tests.support.servers.wire import WireStore


async def failure(uri: str, policy: SourcePolicy) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy)
    assert "canary" not in str(caught.value)
    return caught.value


async def test_one_file_is_named_after_the_path(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    web_server.put("models/weights.onnx", b"0123456789")
    uri = f"{web_server.url}/models/weights.onnx?token=canary#part"
    async with opened(uri, loopback_policy) as source:
        manifest = await source.resolve()
        (file,) = manifest.files
        assert (file.path, file.size) == ("weights.onnx", 10)
        assert manifest.archive is None
        assert await content(source, file) == b"0123456789"
        request = await source.sign(file)
        assert isinstance(request, SignedRequest)
        got = await get(request, 2, 5)
        assert (got.status, got.body, got.kept) == (206, b"234", True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("m.tar", ArchiveKind.TAR),
        ("m.tar.gz", ArchiveKind.TAR_GZ),
        ("m.tgz", ArchiveKind.TAR_GZ),
        ("m.zip", ArchiveKind.ZIP),
        ("m.gz", None),
    ],
)
async def test_archives_are_known_by_their_name(
    web_server: WebServer, loopback_policy: SourcePolicy, name: str, kind: ArchiveKind | None
) -> None:
    web_server.put(f"packed/{name}", b"x")
    manifest = await resolved(f"{web_server.url}/packed/{name}", loopback_policy)
    assert manifest.archive is kind


@pytest.mark.parametrize(
    ("encoded", "name"),
    [("a%20b", "a b"), ("%C3%BC.bin", "ü.bin"), ("a+b", "a+b"), ("100%25", "100%"), ("h%23", "h#")],
)
async def test_names_are_decoded_and_requests_are_not_changed(
    web_server: WebServer, loopback_policy: SourcePolicy, encoded: str, name: str
) -> None:
    web_server.put(f"odd/{name}", name.encode())
    async with opened(f"{web_server.url}/odd/{encoded}", loopback_policy) as source:
        (file,) = (await source.resolve()).files
        assert file.path == name
        assert await content(source, file) == name.encode()


@pytest.mark.parametrize(
    "path", ["models/..%2Fup", "a/%2Fetc", "a/%00", "a/x%5Cy", "a/%2E%2E", "a/%FF"]
)
async def test_names_that_no_folder_can_hold_are_refused(
    web_server: WebServer, loopback_policy: SourcePolicy, path: str
) -> None:
    error = await failure(f"{web_server.url}/{path}", loopback_policy)
    assert isinstance(error, Stalled)


async def test_a_path_without_a_file_name_is_refused(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    for uri in (web_server.url, f"{web_server.url}/models/"):
        assert (await failure(uri, loopback_policy)).reason is Reason.INVALID_SOURCE


async def test_a_changed_file_is_refused(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    web_server.put("changing", b"first")
    async with opened(f"{web_server.url}/changing", loopback_policy) as source:
        before = await source.resolve()
        web_server.put("changing", b"second one")
        request = await source.sign(before.files[0])
        assert isinstance(request, SignedRequest)
        assert (await get(request, 0, 3)).status == 412
        assert (await source.resolve()).revision != before.revision


async def test_without_etag_the_time_of_change_is_the_validator(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    web_server.put("dated", b"abc")
    async with opened(f"{web_server.url}/no-etag/dated", loopback_policy) as source:
        (file,) = (await source.resolve()).files
        assert file.validator.endswith("GMT")
        request = await source.sign(file)
        assert isinstance(request, SignedRequest)
        assert "If-Unmodified-Since" in request.headers
        assert await content(source, file) == b"abc"


async def test_without_any_validator_the_file_is_still_served(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    web_server.put("bare-file", b"abc")
    async with opened(f"{web_server.url}/bare/bare-file", loopback_policy) as source:
        (file,) = (await source.resolve()).files
        assert file.validator == ""
        assert await content(source, file) == b"abc"


async def test_a_server_without_ranges_still_tells_the_size(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    web_server.put("whole", b"all of it")
    manifest = await resolved(f"{web_server.url}/no-ranges/whole", loopback_policy)
    assert manifest.size == 9


async def test_a_server_that_answers_get_only_is_asked_by_get(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    web_server.put("got", b"12345")
    manifest = await resolved(f"{web_server.url}/get-only/got", loopback_policy)
    assert manifest.size == 5


async def test_an_empty_file_is_a_file(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    web_server.put("nothing", b"")
    manifest = await resolved(f"{web_server.url}/nothing", loopback_policy)
    assert manifest.size == 0


async def test_a_server_without_a_length_gives_an_unknown_size(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    manifest = await resolved(f"{wire_store.url}/endless/stream", loopback_policy)
    assert manifest.size is None


async def test_a_stated_digest_is_taken(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    digest = sha256(b"content").digest()
    stated = f"sha-256=:{b64encode(digest).decode()}:"
    wire_store.fail(Fault(200, headers={"Repr-Digest": stated}, body=b"content"))
    manifest = await resolved(f"{wire_store.url}/some/file", loopback_policy)
    assert manifest.files[0].digests == (Digest(Algorithm.SHA256, digest.hex()),)


async def test_redirects_are_followed_and_the_name_stays(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    web_server.put("target", b"there")
    async with opened(f"{web_server.url}/moved/target", loopback_policy) as source:
        (file,) = (await source.resolve()).files
        assert file.path == "target"
        assert await content(source, file) == b"there"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", Reason.SOURCE_NOT_FOUND),
        ("private/x", Reason.ACCESS_DENIED),
        ("forbidden/x", Reason.ACCESS_DENIED),
        ("busy/x", Reason.SOURCE_THROTTLED),
        ("away/x", Reason.SOURCE_THROTTLED),
        ("broken/x", Reason.SOURCE_ERROR),
        ("loop/x", Reason.INVALID_SOURCE),
        ("elsewhere/x", Reason.SOURCE_NOT_ALLOWED),
    ],
)
async def test_each_refusal_has_its_reason(
    web_server: WebServer, loopback_policy: SourcePolicy, path: str, reason: Reason
) -> None:
    error = await failure(f"{web_server.url}/{path}?signature=canary", loopback_policy)
    assert error.reason is reason
    if path.startswith("busy"):
        assert isinstance(error, Retryable)
        assert error.after == 7


async def test_an_unknown_authority_is_not_trusted(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    web_server.put("tls", b"x")
    error = await failure(f"{web_server.tls_url}/tls", loopback_policy)
    assert error.reason is Reason.SOURCE_UNREACHABLE
    assert "certificate" in error.message


async def test_a_given_authority_is_trusted_as_file_and_as_text(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    web_server.put("tls", b"x")
    for bundle in (str(web_server.authority), web_server.authority.read_text()):
        async with Web(loopback_policy, Tls(ca_bundle=bundle)) as web:
            answer = await web.request("GET", f"{web_server.tls_url}/tls", what="it")
            assert answer.body == b"x"
    async with Web(loopback_policy, Tls(verify=False)) as web:
        await web.request("GET", f"{web_server.tls_url}/tls", what="it")


async def test_https_never_leads_to_plain_http(
    web_server: WebServer, loopback_policy: SourcePolicy
) -> None:
    web_server.put("tls", b"x")
    async with Web(loopback_policy, Tls(verify=False)) as web:
        with pytest.raises(Stalled) as caught:
            await web.request("GET", f"{web_server.tls_url}/plain-http/tls", what="it")
    assert caught.value.reason is Reason.SOURCE_NOT_ALLOWED


async def test_credentials_stay_with_the_origin_they_were_given_for(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    with WireStore() as other:
        other.lists(["k"])
        wire_store.fail(Fault(302, headers={"Location": f"{other.url}/bucket/k"}))
        async with Web(loopback_policy) as web:
            await web.request(
                "GET",
                f"{wire_store.url}/x",
                what="it",
                headers={"Authorization": "Bearer canary", "Cookie": "canary", "X-Other": "kept"},
            )
        (first,), (second,) = wire_store.server.seen, other.server.seen
        assert first.headers["authorization"] == "Bearer canary"
        assert "canary" not in str(second.headers)
        assert "canary" not in "".join(second.headers.values())
        assert second.headers["x-other"] == "kept"


async def test_loopback_is_refused_where_nobody_allowed_it(web_server: WebServer) -> None:
    web_server.put("local", b"x")
    port = web_server.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"):
        error = await failure(f"http://{host}:{port}/local", SourcePolicy())
        assert error.reason is Reason.SOURCE_NOT_ALLOWED, host


async def test_nobody_there_is_worth_another_try(loopback_policy: SourcePolicy) -> None:
    (port,) = free_ports(1)
    error = await failure(f"http://127.0.0.1:{port}/x", loopback_policy)
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNREACHABLE


async def test_a_host_without_an_address_is_worth_another_try(
    loopback_policy: SourcePolicy,
) -> None:
    error = await failure("http://no-such-host.invalid/x", loopback_policy)
    assert isinstance(error, Retryable)
    assert "no-such-host.invalid" in error.message
