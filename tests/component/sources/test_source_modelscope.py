"""modelscope:// against a server that speaks the hub's API."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import FetchError, Retryable, Stalled
from agent.manifest import Algorithm, Digest, Strength
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.copying import MIB, copied, interrupted
from tests.component.sources.reading import content, only, opened, paths, resolved
from tests.support.processes import free_ports
from tests.support.servers.modelscope import TOKEN, ModelScopeServer
from tests.support.servers.threaded import Fault

LARGE = os.urandom(1 << 17)
FILES = {"config.json": b"{}", "weights/model.safetensors": LARGE, "empty": b""}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelScopeServer]:
    with ModelScopeServer() as server:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.endpoint)
        yield server


def token(value: str) -> Credentials:
    return Credentials.from_secret({"MODELSCOPE_API_TOKEN": value.encode()}, {})


async def failure(
    uri: str, policy: SourcePolicy, credentials: Credentials | None = None
) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy, credentials)
    assert "canary" not in caught.value.message
    return caught.value


async def test_a_model_is_published_with_the_sha256_that_the_hub_states(
    hub: ModelScopeServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    hub.add("org/model", FILES)
    manifest = await resolved("modelscope://org/model", loopback_policy)
    assert paths(manifest) == ["config.json", "empty", "weights/model.safetensors"]
    assert only(manifest, "weights/model.safetensors").digests == (
        Digest(Algorithm.SHA256, hashlib.sha256(LARGE).hexdigest()),
    )
    done = await copied("modelscope://org/model", tmp_path, loopback_policy)
    assert done.files == FILES
    assert done.tree.verified_by is Strength.SHA256


async def test_a_private_model_takes_a_token_that_stays_with_the_hub(
    hub: ModelScopeServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    hub.add("org/private", FILES, private=True)
    done = await copied("modelscope://org/private", tmp_path, loopback_policy, token(TOKEN))
    assert done.files == FILES
    assert hub.store.seen
    assert not any({"authorization", "cookie"} & one.headers.keys() for one in hub.store.seen)


async def test_a_branch_that_moves_meanwhile_does_not_move_what_was_listed(
    hub: ModelScopeServer, loopback_policy: SourcePolicy
) -> None:
    hub.add("org/model", {"f": b"first", "g": b"same"})
    async with opened("modelscope://org/model", loopback_policy) as source:
        before = await source.resolve()
        hub.add("org/model", {"f": b"second", "g": b"same"})
        assert await content(source, only(before, "f")) == b"first"
        assert await content(source, only(before, "g")) == b"same"
        assert (await source.resolve()).revision != before.revision


async def test_a_file_of_which_nothing_tells_the_version_comes_as_one_stream(
    hub: ModelScopeServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    body = os.urandom(12 * MIB)
    hub.add("org/model", {"f": body})
    hub.vague, hub.lies["f"] = True, ""
    done = await copied("modelscope://org/model", tmp_path, loopback_policy)
    assert done.files == {"f": body}
    assert done.tree.verified_by is Strength.SIZE
    assert not any("range" in one.headers for one in hub.store.seen)
    hub.vague = False
    await copied("modelscope://org/model", tmp_path / "again", loopback_policy)
    assert any("range" in one.headers for one in hub.store.seen)


async def test_a_revision_is_a_branch_a_tag_or_a_commit(
    hub: ModelScopeServer, loopback_policy: SourcePolicy
) -> None:
    commit = hub.add("org/model", {"f": b"first"})
    hub.add("org/model", {"f": b"second"}, branch="v1.0")
    for revision, body in (("v1.0", b"second"), (commit, b"first"), ("master", b"first")):
        async with opened(f"modelscope://org/model:{revision}", loopback_policy) as source:
            assert await content(source, (await source.resolve()).files[0]) == body


async def test_listings_that_the_hub_cuts_off_are_completed_folder_by_folder(
    loopback_policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"d{n % 5}/e{n % 2}/{n}": b"%d" % n for n in range(7000)} | {"top": b"x"}
    with ModelScopeServer() as server:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.endpoint)
        server.add("org/many", files)
        manifest = await resolved("modelscope://org/many", loopback_policy)
        assert len(manifest.files) == 7001
        server.add("org/flat", {f"d/{n}": b"x" for n in range(3001)})
        error = await failure("modelscope://org/flat", loopback_policy)
        assert error.reason is Reason.INVALID_SOURCE


async def test_content_that_is_not_what_the_hub_states_is_not_published(
    hub: ModelScopeServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    hub.add("org/model", FILES)
    hub.lies["weights/model.safetensors"] = "0" * 64
    with pytest.raises(Stalled) as caught:
        await copied("modelscope://org/model", tmp_path, loopback_policy)
    assert caught.value.reason is Reason.CHECKSUM_MISMATCH
    assert not list((tmp_path / "models").iterdir())


async def test_an_interrupted_copy_goes_on_where_it_was(
    hub: ModelScopeServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    body = os.urandom(16 * MIB)
    hub.add("org/model", {"model.bin": body})
    await interrupted("modelscope://org/model", tmp_path, loopback_policy, None, after=8 * MIB)
    done = await copied("modelscope://org/model", tmp_path, loopback_policy)
    assert done.files == {"model.bin": body}
    assert done.moved <= 12 * MIB


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [(None, Reason.ACCESS_DENIED), (token("ms-canary-wrong"), Reason.ACCESS_DENIED)],
)
async def test_who_may_not_read_is_denied(
    hub: ModelScopeServer,
    loopback_policy: SourcePolicy,
    credentials: Credentials | None,
    reason: Reason,
) -> None:
    hub.add("org/closed", FILES, private=True)
    error = await failure("modelscope://org/closed", loopback_policy, credentials)
    assert isinstance(error, Stalled)
    assert error.reason is reason


async def test_what_is_not_there_is_not_found(
    hub: ModelScopeServer, loopback_policy: SourcePolicy
) -> None:
    hub.add("org/model", FILES)
    for uri in ("modelscope://org/other", "modelscope://org/model:no-such-branch"):
        assert (await failure(uri, loopback_policy)).reason is Reason.SOURCE_NOT_FOUND


@pytest.mark.parametrize(
    "names", [["../up"], ["/abs"], ["a/../b"], ["nul\x00"], ["a", "a/b"], ["back\\slash"]]
)
async def test_names_that_no_folder_can_hold_are_refused(
    hub: ModelScopeServer, loopback_policy: SourcePolicy, names: list[str]
) -> None:
    hub.add("org/evil", dict.fromkeys(["fine", *names], b"x"))
    error = await failure("modelscope://org/evil", loopback_policy)
    assert error.reason is Reason.UNSAFE_PATH


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(429, headers={"Retry-After": "9"}), Reason.SOURCE_THROTTLED),
        (Fault(500), Reason.SOURCE_ERROR),
        (Fault(200, body=b"<html>"), Reason.SOURCE_ERROR),
        (Fault(200, body=b'{"Data": 1}'), Reason.SOURCE_ERROR),
        (Fault(302, headers={"Location": "http://169.254.169.254/"}), Reason.SOURCE_NOT_ALLOWED),
    ],
)
async def test_each_trouble_has_its_reason(
    hub: ModelScopeServer, loopback_policy: SourcePolicy, fault: Fault, reason: Reason
) -> None:
    hub.fail(fault)
    assert (await failure("modelscope://org/model", loopback_policy)).reason is reason


async def test_nobody_at_the_endpoint_is_worth_another_try(
    loopback_policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"http://127.0.0.1:{free_ports(1)[0]}")
    error = await failure("modelscope://org/model", loopback_policy)
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNREACHABLE


async def test_loopback_is_refused_where_nobody_allowed_it(hub: ModelScopeServer) -> None:
    error = await failure("modelscope://org/model", SourcePolicy())
    assert error.reason is Reason.SOURCE_NOT_ALLOWED


async def test_a_stored_token_does_not_go_to_an_endpoint_that_a_user_names(
    hub: ModelScopeServer, loopback_policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-canary-of-the-agent")
    hub.add("org/model", FILES)
    theirs = {"endpoint_url": hub.endpoint}
    error = await failure(
        "modelscope://org/model", loopback_policy, token(TOKEN).with_parameters(theirs)
    )
    assert error.reason is Reason.SOURCE_NOT_ALLOWED
    given = Credentials.from_storage_config({}, theirs)
    await resolved("modelscope://org/model", loopback_policy, given)
    assert all("authorization" not in one.headers for one in hub.api.seen)


@pytest.mark.parametrize("uri", ["modelscope://org", "modelscope://org/a/b", "modelscope://org/m:"])
async def test_malformed_uris_are_refused(uri: str) -> None:
    assert (await failure(uri, SourcePolicy())).reason is Reason.INVALID_SOURCE
