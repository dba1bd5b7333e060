"""git+https:// against git's own HTTP backend, with git-lfs beside it."""

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from agent.errors import FetchError, Retryable, Stalled
from agent.manifest import Strength
from agent.origin import LocalPath, SignedRequest
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.copying import MIB, copied, interrupted
from tests.component.sources.reading import only, opened, resolved
from tests.support.mounts import tmpfs
from tests.support.servers.git import PASSWORD, USER, GitServer
from tests.support.servers.threaded import Fault

FILES = {
    "config.json": b'{"a": 1}',
    "d\u00e9j\u00e0/a b.txt": b"x" * 5000,
    "weights.bin": os.urandom(1 << 18),
    "empty": b"",
}


@pytest.fixture(scope="module")
def git() -> Iterator[GitServer]:
    with GitServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _honest(git: GitServer) -> None:
    git.fail(None)
    git.lies.clear()


def uri(git: GitServer, repo: str, revision: str = "") -> str:
    at = f"@{revision}" if revision else ""
    return f"git+{git.url}/{repo}.git{at}"


def secret(git: GitServer, password: str = PASSWORD, host: str | None = None) -> Credentials:
    values = {"GIT_USERNAME": USER, "GIT_PASSWORD": password}
    values["GIT_HOST"] = host or git.url.removeprefix("http://")
    return Credentials.from_secret({key: value.encode() for key, value in values.items()}, {})


async def failure(
    uri: str, policy: SourcePolicy, credentials: Credentials | None = None
) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy, credentials)
    assert "canary" not in caught.value.message
    return caught.value


async def test_a_repository_is_published_at_its_commit(
    git: GitServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    git.commit("org/model", {"old": b"gone"})
    commit = git.commit("org/model", FILES)
    done = await copied(uri(git, "org/model"), tmp_path, loopback_policy)
    assert done.files == FILES
    assert done.tree.revision == commit
    assert done.tree.verified_by is Strength.GIT_SHA1


async def test_a_pack_may_take_longer_than_a_listing(
    loopback_policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(GitServer):
        async def _backend(self, request: web.Request) -> web.Response:
            if b"command=fetch" in await request.read():
                await asyncio.sleep(3)
            return await super()._backend(request)

    monkeypatch.setattr("agent.sources.web._SECONDS", 2.0)
    with Slow() as slow:
        slow.commit("org/model", FILES)
        assert len((await resolved(uri(slow, "org/model"), loopback_policy)).files) == len(FILES)
        monkeypatch.setattr("agent.sources.git_protocol._PACK_SECONDS", 1.0)
        error = await failure(uri(slow, "org/model"), loopback_policy)
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNREACHABLE


async def test_branches_tags_and_commits_are_revisions(
    git: GitServer, loopback_policy: SourcePolicy
) -> None:
    first = git.commit("org/revisions", {"f": b"first"}, tag="v1")
    second = git.commit("org/revisions", {"f": b"second", "g": b"more"})
    found = {
        name: (await resolved(uri(git, "org/revisions", name), loopback_policy)).revision
        for name in ("v1", "main", first, "refs/heads/main")
    }
    assert found == {"v1": first, "main": second, first: first, "refs/heads/main": second}
    async with opened(uri(git, "org/revisions"), loopback_policy) as source:
        manifest = await source.resolve(revision=first)
        assert (manifest.revision, manifest.pinned) == (first, True)
        local = await source.sign(only(manifest, "f"))
        assert isinstance(local, LocalPath)
        assert local.path.read_bytes() == b"first"
    assert not local.path.exists()


async def test_what_git_has_packed_as_deltas_is_read(
    git: GitServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    body = os.urandom(40_000)
    files = {f"v{n}": body[: n * 1000] + b"%d" % n + body[n * 1000 :] for n in range(20)}
    git.commit("org/deltas", files)
    done = await copied(uri(git, "org/deltas"), tmp_path, loopback_policy)
    assert done.files == files


async def test_large_files_come_from_git_lfs_verified_and_without_the_password(
    git: GitServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    body = os.urandom(3 * MIB)
    git.commit("private/lfs", {"model.bin": git.keep_large(body), "small": b"s"})
    done = await copied(uri(git, "private/lfs"), tmp_path, loopback_policy, secret(git))
    assert done.files == {"model.bin": body, "small": b"s"}
    assert done.verified == {"model.bin": Strength.SHA256, "small": Strength.GIT_SHA1}
    # The weakest file decides.
    assert done.tree.verified_by is Strength.GIT_SHA1
    assert git.store.seen
    assert all("authorization" not in one.headers for one in git.store.seen)
    async with opened(uri(git, "private/lfs"), loopback_policy, secret(git)) as source:
        request = await source.sign(only(await source.resolve(), "model.bin"))
        assert isinstance(request, SignedRequest)
        assert "canary" not in repr(request)


async def test_an_interrupted_copy_goes_on_where_it_was(
    git: GitServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    body = os.urandom(16 * MIB)
    git.commit("org/resumed", {"model.bin": git.keep_large(body)})
    address = uri(git, "org/resumed")
    await interrupted(address, tmp_path, loopback_policy, None, after=8 * MIB)
    done = await copied(address, tmp_path, loopback_policy)
    assert done.files == {"model.bin": body}
    assert done.moved <= 12 * MIB


async def test_large_files_that_are_others_or_gone_are_not_published(
    git: GitServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    body = os.urandom(100_000)
    pointer = git.keep_large(body)
    sha256 = pointer.split(b"sha256:")[1][:64].decode()
    git.commit("org/lying", {"model.bin": pointer})
    git.lies[sha256] = os.urandom(100_000)
    with pytest.raises(Stalled) as caught:
        await copied(uri(git, "org/lying"), tmp_path, loopback_policy)
    assert caught.value.reason is Reason.CHECKSUM_MISMATCH
    gone = pointer.replace(sha256.encode(), b"0" * 64)
    git.commit("org/lying", {"model.bin": gone})
    with pytest.raises(Stalled) as caught:
        await copied(uri(git, "org/lying"), tmp_path, loopback_policy)
    assert caught.value.reason is Reason.SOURCE_NOT_FOUND


async def test_who_may_not_read_is_denied(git: GitServer, loopback_policy: SourcePolicy) -> None:
    git.commit("private/closed", FILES)
    for credentials in (None, secret(git, "canary-wrong")):
        error = await failure(uri(git, "private/closed"), loopback_policy, credentials)
        assert isinstance(error, Stalled)
        assert error.reason is Reason.ACCESS_DENIED


async def test_what_is_not_there_is_not_found(
    git: GitServer, loopback_policy: SourcePolicy
) -> None:
    git.commit("org/there", FILES)
    for address in (
        uri(git, "org/nowhere"),
        uri(git, "org/there", "no-such-branch"),
        uri(git, "org/there", "0" * 40),
    ):
        error = await failure(address, loopback_policy)
        assert isinstance(error, Stalled)
        assert error.reason is Reason.SOURCE_NOT_FOUND


async def test_a_stored_password_goes_only_where_it_is_for(
    git: GitServer, loopback_policy: SourcePolicy
) -> None:
    git.commit("org/bound", FILES)
    seen = len(git.http.seen)
    elsewhere = secret(git, host="git.example.com")
    error = await failure(uri(git, "org/bound"), loopback_policy, elsewhere)
    assert error.reason is Reason.SOURCE_NOT_ALLOWED
    assert len(git.http.seen) == seen
    host = git.url.removeprefix("http://")
    allowed = replace(loopback_policy, credential_endpoints=frozenset({host}))
    await resolved(uri(git, "org/bound"), allowed, elsewhere)


async def test_the_password_does_not_follow_a_redirect_to_another_host(
    git: GitServer, loopback_policy: SourcePolicy
) -> None:
    git.commit("org/redirected", FILES)
    with GitServer() as other:
        location = f"{other.url}/org/redirected.git/info/refs?service=git-upload-pack"
        git.fail(Fault(302, headers={"Location": location}, times=1))
        await failure(uri(git, "org/redirected"), loopback_policy, secret(git))
        assert other.http.seen
        assert all("authorization" not in one.headers for one in other.http.seen)


async def test_links_inside_become_files_and_links_out_are_refused(
    git: GitServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    git.commit("org/links", {"d/f": b"content"}, links={"g": "d/f", "h": "g"})
    done = await copied(uri(git, "org/links"), tmp_path, loopback_policy)
    assert done.files == {"d/f": b"content", "g": b"content", "h": b"content"}
    for target in ("../../etc/passwd", "/etc/passwd", "nowhere"):
        git.commit("org/links", {"d/f": b"content"}, links={"g": target})
        error = await failure(uri(git, "org/links"), loopback_policy)
        assert error.reason is Reason.UNSAFE_PATH


@pytest.mark.parametrize("name", ["..", ".", "a/../b", "/abs", "back\\slash", "bell\a"])
async def test_names_that_no_folder_can_hold_are_refused(
    git: GitServer, loopback_policy: SourcePolicy, name: str
) -> None:
    git.commit("org/evil", {"fine": b"x"})
    git.commit_tree("org/evil", [("100644", "fine", b"x"), ("100644", name, b"y")])
    error = await failure(uri(git, "org/evil"), loopback_policy)
    assert error.reason is Reason.UNSAFE_PATH


async def test_what_is_too_large_without_lfs_is_refused(
    git: GitServer, loopback_policy: SourcePolicy
) -> None:
    git.commit("org/huge", {"zeros": bytes(49 * MIB)})
    error = await failure(uri(git, "org/huge"), loopback_policy)
    assert error.reason is Reason.INVALID_SOURCE
    assert "48 MiB" in error.message


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(429, headers={"Retry-After": "9"}), Reason.SOURCE_THROTTLED),
        (Fault(500), Reason.SOURCE_ERROR),
        (Fault(200, body=b"<html>"), Reason.SOURCE_ERROR),
        (Fault(200, body=b"001e# service=git-upload-pack\n0000"), Reason.INVALID_SOURCE),
        (Fault(302, headers={"Location": "http://169.254.169.254/"}), Reason.SOURCE_NOT_ALLOWED),
    ],
)
async def test_each_trouble_has_its_reason(
    git: GitServer, loopback_policy: SourcePolicy, fault: Fault, reason: Reason
) -> None:
    git.fail(fault)
    assert (await failure(uri(git, "org/model"), loopback_policy)).reason is reason


async def test_loopback_is_refused_where_nobody_allowed_it(git: GitServer) -> None:
    error = await failure(uri(git, "org/model"), SourcePolicy())
    assert error.reason is Reason.SOURCE_NOT_ALLOWED


async def test_an_empty_repository_has_no_files(
    git: GitServer, loopback_policy: SourcePolicy
) -> None:
    git.commit("org/hollow", {})
    error = await failure(uri(git, "org/hollow"), loopback_policy)
    assert error.reason is Reason.SOURCE_EMPTY


def held(temporary: Path) -> int | None:
    """Bytes of all files there; None when there is nothing at all."""
    found = list(temporary.rglob("*"))
    return sum(path.stat().st_size for path in found if path.is_file()) if found else None


async def test_copies_share_one_temporary_folder_and_wait_for_each_other(
    git: GitServer, loopback_policy: SourcePolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("one", "two"):
        git.commit(f"org/{name}", {"large": name.encode() * 10 * MIB})
    async with opened(uri(git, "org/one"), loopback_policy) as first:
        await first.resolve()
        async with opened(uri(git, "org/one"), loopback_policy) as again:
            await again.resolve()
        second = asyncio.create_task(resolved(uri(git, "org/two"), loopback_policy))
        await asyncio.wait([second], timeout=3)
        assert not second.done()
        assert held(tmp_path) == 30 * MIB
    assert (await second).size == 30 * MIB
    assert held(tmp_path) is None


async def test_a_copy_that_finds_no_room_says_what_it_waits_for(
    git: GitServer, loopback_policy: SourcePolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("agent.sources.git._ROOM_SECONDS", 0.5)
    for name in ("one", "two"):
        git.commit(f"org/{name}", {"large": name.encode() * 10 * MIB})
    async with opened(uri(git, "org/one"), loopback_policy) as first:
        await first.resolve()
        error = await failure(uri(git, "org/two"), loopback_policy)
    assert isinstance(error, Retryable)
    assert error.reason is Reason.TEMPORARY_FOLDER_FULL
    with tmpfs(tmp_path / "disk", "size=8m") as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        error = await failure(uri(git, "org/two"), loopback_policy)
    assert error.reason is Reason.TEMPORARY_FOLDER_FULL


async def test_a_copy_that_is_called_away_while_it_reads_leaves_nothing(
    git: GitServer, loopback_policy: SourcePolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    git.commit("org/away", {f"f{n}": os.urandom(MIB) for n in range(10)})
    for pause in (0.05, 0.1, 0.2, 0.4, 0.8):
        task = asyncio.create_task(resolved(uri(git, "org/away"), loopback_policy))
        await asyncio.wait([task], timeout=pause)
        task.cancel()
        await asyncio.wait([task])
    async with asyncio.timeout(10):
        while held(tmp_path) is not None:  # noqa: ASYNC110 — a thread removes it
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ({"href": "http://host:99999999/x"}, Reason.INVALID_SOURCE),
        ({"href": "http://[::1"}, Reason.INVALID_SOURCE),
        ({"href": "file:///etc/passwd"}, Reason.INVALID_SOURCE),
        ({"href": "ftp://host/x"}, Reason.SOURCE_NOT_ALLOWED),
        ({"href": "http://host/x", "header": {"A": "b\r\nC: d"}}, Reason.SOURCE_ERROR),
        ({"href": "http://host/x", "header": ["A"]}, Reason.SOURCE_ERROR),
    ],
)
async def test_where_git_lfs_leads_is_checked(
    git: GitServer, loopback_policy: SourcePolicy, action: object, reason: Reason
) -> None:
    git.commit("org/leads", {"model.bin": git.keep_large(b"x" * 1000)})
    said = {"objects": [{"actions": {"download": action}}]}
    async with opened(uri(git, "org/leads"), loopback_policy) as source:
        manifest = await source.resolve()
        git.fail(Fault(200, prefix="/org/leads.git/info/lfs", body=json.dumps(said).encode()))
        with pytest.raises(FetchError) as caught:
            await source.sign(only(manifest, "model.bin"))
    assert caught.value.reason is reason
