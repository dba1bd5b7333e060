"""hf:// against a server that speaks the Hub's protocol."""

import asyncio
import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import FetchError, Retryable, Stalled
from agent.manifest import Algorithm, Digest
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources.access import HubAccess
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.copying import MIB, copied, interrupted
from tests.component.sources.reading import content, get, only, opened, paths, resolved
from tests.support.faults import FaultServer, Reply
from tests.support.processes import free_ports
from tests.support.servers.hub import STRANGER, TOKEN, HubServer
from tests.support.servers.threaded import Fault

LARGE = os.urandom(1 << 17)
SMALL = b'{"hidden_size": 8}'
FILES = {"config.json": SMALL, "weights/model.safetensors": LARGE, "empty": b""}


def token(value: str) -> Credentials:
    return Credentials.from_secret({"HF_TOKEN": value.encode()}, {})


def at(hub: HubServer, policy: SourcePolicy) -> SourcePolicy:
    return replace(policy, hf_endpoint=hub.endpoint)


async def failure(
    uri: str, policy: SourcePolicy, credentials: Credentials | None = None
) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy, credentials)
    assert "canary" not in str(caught.value)
    return caught.value


async def test_a_branch_becomes_a_commit_and_files_have_strong_digests(
    hub_server: HubServer, loopback_policy: SourcePolicy
) -> None:
    commit = hub_server.add("org/model", FILES)
    manifest = await resolved("hf://org/model", at(hub_server, loopback_policy))
    assert manifest.pinned
    assert manifest.revision == commit
    assert paths(manifest) == ["config.json", "empty", "weights/model.safetensors"]
    assert manifest.size == len(SMALL) + len(LARGE)
    assert only(manifest, "weights/model.safetensors").digests == (
        Digest(Algorithm.SHA256, hashlib.sha256(LARGE).hexdigest()),
    )
    git = hashlib.sha1(b"blob %d\0" % len(SMALL) + SMALL).hexdigest()
    assert only(manifest, "config.json").digests == (Digest(Algorithm.GIT_SHA1, git),)


async def test_ranges_come_from_the_cdn_and_the_token_does_not_go_there(
    hub_server: HubServer, loopback_policy: SourcePolicy
) -> None:
    hub_server.add("org/private", FILES, access="private")
    async with opened("hf://org/private", at(hub_server, loopback_policy), token(TOKEN)) as source:
        manifest = await source.resolve()
        request = await source.sign(only(manifest, "weights/model.safetensors"))
        assert isinstance(request, SignedRequest)
        assert TOKEN not in repr(request)
        got = await get(request, 1000, 50_000)
        assert (got.status, got.kept) == (206, True)
        assert got.body == LARGE[1000:50_000]
        assert await content(source, only(manifest, "config.json")) == SMALL
        assert await content(source, only(manifest, "empty")) == b""
    assert hub_server.cdn.seen
    assert all("authorization" not in seen.headers for seen in hub_server.cdn.seen)


async def test_a_named_revision_is_resolved_and_a_given_commit_kept(
    hub_server: HubServer, loopback_policy: SourcePolicy
) -> None:
    old = hub_server.add("org/model", {"f": b"old"})
    hub_server.add("org/model", {"f": b"new"})
    tagged = hub_server.add("org/model", {"f": b"tagged"}, branch="refs/pr/1")
    policy = at(hub_server, loopback_policy)
    assert (await resolved("hf://org/model:refs/pr/1", policy)).revision == tagged
    async with opened("hf://org/model", policy) as source:
        manifest = await source.resolve(revision=old)
        assert manifest.revision == old
        assert await content(source, manifest.files[0]) == b"old"


async def test_a_moved_branch_does_not_move_what_was_resolved(
    hub_server: HubServer, loopback_policy: SourcePolicy
) -> None:
    hub_server.add("org/model", {"f": b"first"})
    async with opened("hf://org/model", at(hub_server, loopback_policy)) as source:
        manifest = await source.resolve()
        hub_server.add("org/model", {"f": b"second"})
        assert await content(source, manifest.files[0]) == b"first"


@pytest.mark.parametrize(
    "name", ["ünï/文件.bin", "a+b", "100%", "with space", "h#t", "q?", "a%2Fb"]
)
async def test_odd_names_are_listed_and_read_as_they_are(
    hub_server: HubServer, loopback_policy: SourcePolicy, name: str
) -> None:
    hub_server.add("org/odd", {name: name.encode()})
    async with opened("hf://org/odd", at(hub_server, loopback_policy)) as source:
        file = only(await source.resolve(), name)
        assert await content(source, file) == name.encode()


async def test_five_thousand_files_are_listed_in_seconds(
    hub_server: HubServer, loopback_policy: SourcePolicy
) -> None:
    hub_server.add("org/many", {f"d{n % 50}/{n}": b"%d" % n for n in range(5000)})
    started = time.monotonic()
    manifest = await resolved("hf://org/many", at(hub_server, loopback_policy))
    assert len(manifest.files) == 5000
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("access", "credentials", "reason"),
    [
        ("private", None, Reason.ACCESS_DENIED),
        ("private", token(STRANGER), Reason.SOURCE_NOT_FOUND),
        ("gated", None, Reason.ACCESS_DENIED),
        ("gated", token(STRANGER), Reason.ACCESS_DENIED),
        ("public", token("hf_canary_wrong"), Reason.ACCESS_DENIED),
    ],
)
async def test_who_may_not_read_is_told_so_before_the_first_byte(
    hub_server: HubServer,
    loopback_policy: SourcePolicy,
    access: str,
    credentials: Credentials | None,
    reason: Reason,
) -> None:
    hub_server.add("org/closed", FILES, access=access)
    error = await failure("hf://org/closed", at(hub_server, loopback_policy), credentials)
    assert isinstance(error, Stalled)
    assert error.reason is reason
    if access == "gated":
        assert "gated" in error.message


async def test_what_is_not_there_is_not_found(
    hub_server: HubServer, loopback_policy: SourcePolicy
) -> None:
    hub_server.add("org/model", FILES)
    policy = at(hub_server, loopback_policy)
    for uri in ("hf://org/other", "hf://org/model:no-such-branch"):
        error = await failure(uri, policy, token(TOKEN))
        assert error.reason is Reason.SOURCE_NOT_FOUND


async def test_an_empty_repository_has_no_files(
    hub_server: HubServer, loopback_policy: SourcePolicy
) -> None:
    hub_server.add("org/hollow", {})
    error = await failure("hf://org/hollow", at(hub_server, loopback_policy))
    assert error.reason is Reason.SOURCE_EMPTY


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(429, headers={"Retry-After": "31"}), Reason.SOURCE_THROTTLED),
        (Fault(503, headers={"Retry-After": "31"}), Reason.SOURCE_THROTTLED),
        (Fault(500), Reason.SOURCE_ERROR),
        (Fault(200, body=b"<html>"), Reason.SOURCE_ERROR),
    ],
)
async def test_a_hub_in_trouble_is_worth_another_try(
    hub_server: HubServer, loopback_policy: SourcePolicy, fault: Fault, reason: Reason
) -> None:
    hub_server.fail(fault)
    error = await failure("hf://org/model", at(hub_server, loopback_policy))
    assert isinstance(error, Retryable)
    assert error.reason is reason
    if reason is Reason.SOURCE_THROTTLED:
        assert error.after == 31


async def test_hubs_that_send_a_byte_now_and_then_do_not_keep_others_waiting(
    hub_server: HubServer, loopback_policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.add("org/model", FILES)
    monkeypatch.setattr("agent.sources.hf._RESOLVE_SECONDS", 2.0)
    with FaultServer(lambda _: Reply(body=b" " * MIB, rate=10)) as drip:
        policy = replace(loopback_policy, hf_endpoint=drip.url)
        errors = await asyncio.gather(*(failure("hf://org/model", policy) for _ in range(8)))
        assert {error.reason for error in errors} == {Reason.SOURCE_UNREACHABLE}
        monkeypatch.setattr("agent.sources.hf._RESOLVE_SECONDS", 30.0)
        found = await resolved("hf://org/model", at(hub_server, loopback_policy))
    assert len(found.files) == len(FILES)


async def test_nobody_at_the_endpoint_is_worth_another_try(loopback_policy: SourcePolicy) -> None:
    (port,) = free_ports(1)
    policy = replace(loopback_policy, hf_endpoint=f"http://127.0.0.1:{port}")
    error = await failure("hf://org/model", policy)
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNREACHABLE


async def test_loopback_is_refused_where_nobody_allowed_it(hub_server: HubServer) -> None:
    error = await failure("hf://org/model", SourcePolicy(hf_endpoint=hub_server.endpoint))
    assert error.reason is Reason.SOURCE_NOT_ALLOWED


async def test_a_redirect_to_a_refused_address_is_not_followed(
    hub_server: HubServer, loopback_policy: SourcePolicy
) -> None:
    hub_server.fail(Fault(302, headers={"Location": "http://169.254.169.254/latest/"}))
    error = await failure("hf://org/model", at(hub_server, loopback_policy))
    assert error.reason is Reason.SOURCE_NOT_ALLOWED


async def test_the_token_does_not_follow_a_redirect_to_another_host(
    hub_server: HubServer, loopback_policy: SourcePolicy
) -> None:
    with HubServer() as other:
        other.add("org/model", FILES)
        location = f"{other.endpoint}/api/models/org/model/revision/main"
        hub_server.fail(Fault(302, headers={"Location": location}, times=1))
        await failure("hf://org/model", at(hub_server, loopback_policy), token(TOKEN))
        assert "authorization" in hub_server.api.seen[0].headers
        assert all("authorization" not in seen.headers for seen in other.api.seen)
        assert other.api.seen


@pytest.mark.parametrize(
    "names", [["../up"], ["/abs"], ["a/../b"], ["nul\x00"], ["a", "a/b"], ["back\\slash"]]
)
async def test_names_that_no_folder_can_hold_are_refused(
    hub_server: HubServer, loopback_policy: SourcePolicy, names: list[str]
) -> None:
    hub_server.add("org/evil", dict.fromkeys(["fine", *names], b"x"))
    error = await failure("hf://org/evil", at(hub_server, loopback_policy))
    assert error.reason is Reason.UNSAFE_PATH


async def test_a_commit_that_changes_a_readme_moves_only_that_of_an_interrupted_copy(
    hub_server: HubServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    weights = {f"weights/{number}": os.urandom(8 * MIB) for number in range(2)}
    hub_server.add("org/moving", {"README.md": b"one", **weights})
    policy = at(hub_server, loopback_policy)
    await interrupted("hf://org/moving", tmp_path, policy, None, after=12 * MIB)
    commit = hub_server.add("org/moving", {"README.md": b"two, and longer", **weights})
    done = await copied("hf://org/moving", tmp_path, policy)
    assert done.files == {"README.md": b"two, and longer", **weights}
    assert done.tree.revision == commit
    assert done.moved <= 10 * MIB


async def test_an_endpoint_that_a_user_names_gets_nobodys_token(
    hub_server: HubServer, loopback_policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary_of_the_agent")
    hub_server.add("org/model", FILES)
    theirs = {"endpoint_url": hub_server.endpoint}
    stored = token(TOKEN).with_parameters(theirs)
    assert (await failure("hf://org/model", loopback_policy, stored)).reason is (
        Reason.SOURCE_NOT_ALLOWED
    )
    await resolved("hf://org/model", loopback_policy, Credentials.from_storage_config({}, theirs))
    assert all("authorization" not in seen.headers for seen in hub_server.api.seen)
    host = hub_server.endpoint.removeprefix("http://")
    listed = replace(loopback_policy, credential_endpoints=frozenset({host}))
    await resolved("hf://org/model", listed, stored)
    assert hub_server.api.seen[-1].headers["authorization"] == f"Bearer {TOKEN}"


async def test_the_agents_own_token_is_used_when_nothing_is_named(
    hub_server: HubServer, loopback_policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub_server.add("org/private", FILES, access="private")
    await resolved("hf://org/private", at(hub_server, loopback_policy))
    anonymous = Credentials(hf=HubAccess(anonymous=True))
    error = await failure("hf://org/private", at(hub_server, loopback_policy), anonymous)
    assert error.reason is Reason.ACCESS_DENIED
