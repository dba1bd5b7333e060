"""What fsspec can read and nothing of ours does: ftp:// against a real server."""

import asyncio
import io
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.spec import AbstractFileSystem
from structlog.testing import capture_logs

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.manifest import Strength
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.copying import MIB, copied, interrupted
from tests.component.sources.reading import opened, resolved
from tests.support.processes import free_ports
from tests.support.servers.ftp import PASSWORD, USER, FtpServer

FILES = {"config.json": b"{}", "w/a b.bin": os.urandom(3 * MIB), "empty": b""}


class MuteSystem(AbstractFileSystem):  # type: ignore[misc]
    """A library that waits for ever for a peer that says nothing; what it read before that is there."""

    protocol = "mute"
    content = os.urandom(2 * MIB)
    opened: ClassVar[list[int]] = []
    over = threading.Event()

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": len(self.content), "type": "file", "mtime": 1}

    def open(self, *_: Any, **__: Any) -> Any:
        file = io.BytesIO(self.content)
        read = file.read

        def first_only(size: int) -> bytes:
            if file.tell() >= MIB and len(self.opened) < 2:
                self.over.wait(60)
            return read(size)

        self.opened.append(1)
        return SimpleNamespace(read=first_only, seek=file.seek, close=file.close)


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[MuteSystem]]:
    monkeypatch.setattr("agent.sources.generic._SILENCE_SECONDS", 1.0)
    fsspec.register_implementation("mute", f"{__name__}.{MuteSystem.__name__}", clobber=True)
    yield MuteSystem
    MuteSystem.over.set()


@pytest.fixture
def ftp() -> Iterator[FtpServer]:
    with FtpServer() as server:
        for name, content in FILES.items():
            server.put(f"m/{name}", content)
        yield server


@pytest.fixture
def policy(loopback_policy: SourcePolicy) -> SourcePolicy:
    return replace(loopback_policy, generic_schemes=frozenset({"ftp", "memory", "smb"}))


def entry(password: str = PASSWORD, **more: str) -> Credentials:
    said = {"type": "ftp", "host": "127.0.0.1", "username": USER, "password": password}
    return Credentials.from_storage_config({**said, **more}, {})


async def failure(
    uri: str, policy: SourcePolicy, credentials: Credentials | None = None
) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy, credentials)
    assert "canary" not in caught.value.message
    return caught.value


async def test_a_folder_is_published_and_said_to_be_verified_by_size_alone(
    ftp: FtpServer, policy: SourcePolicy, tmp_path: Path
) -> None:
    uri = f"ftp://{ftp.place}/m"
    done = await copied(uri, tmp_path, policy, entry())
    assert done.files == FILES
    assert done.tree.verified_by is Strength.SIZE


async def test_each_copy_says_that_it_takes_the_slower_path(
    ftp: FtpServer, policy: SourcePolicy
) -> None:
    with capture_logs() as told:
        await resolved(f"ftp://{ftp.place}/m", policy, entry())
    (line,) = [one for one in told if one["event"].startswith("generic path: slower")]
    assert line["log_level"] == "warning"
    assert line["scheme"] == "ftp"
    assert line["library"] == "fsspec.implementations.ftp"


async def test_an_interrupted_copy_goes_on_where_it_was(
    ftp: FtpServer, policy: SourcePolicy, tmp_path: Path
) -> None:
    body = os.urandom(16 * MIB)
    ftp.put("large/model.bin", body)
    uri = f"ftp://{ftp.place}/large"
    await interrupted(uri, tmp_path, policy, entry(), after=8 * MIB)
    done = await copied(uri, tmp_path, policy, entry())
    assert done.files == {"model.bin": body}
    assert done.moved <= 12 * MIB


async def test_a_library_that_waits_for_ever_is_left_and_what_came_is_kept(
    mute: type[MuteSystem], loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    policy = replace(loopback_policy, generic_schemes=frozenset({"mute"}))
    async with asyncio.timeout(30):
        done = await copied("mute://place/file", tmp_path, policy)
    assert done.files == {"file": mute.content}
    assert len(mute.opened) == 2
    assert done.moved == len(mute.content)


async def test_a_file_that_was_replaced_is_noticed_before_it_is_read(
    ftp: FtpServer, policy: SourcePolicy
) -> None:
    ftp.put("single/file", b"first")
    async with opened(f"ftp://{ftp.place}/single/file", policy, entry()) as source:
        manifest = await source.resolve()
        assert [file.path for file in manifest.files] == ["file"]
        ftp.put("single/file", b"longer than before")
        with pytest.raises(SourceChanged):
            await source.sign(manifest.files[0])


async def test_a_wrong_password_is_denied_and_what_is_not_there_not_found(
    ftp: FtpServer, policy: SourcePolicy
) -> None:
    uri = f"ftp://{ftp.place}/m"
    assert (await failure(uri, policy, entry("canary-wrong"))).reason is Reason.ACCESS_DENIED
    nowhere = await failure(f"ftp://{ftp.place}/nowhere", policy, entry())
    assert isinstance(nowhere, Stalled)
    assert nowhere.reason is Reason.SOURCE_NOT_FOUND


async def test_only_what_an_admin_lists_is_served(
    ftp: FtpServer, loopback_policy: SourcePolicy, policy: SourcePolicy
) -> None:
    error = await failure(f"ftp://{ftp.place}/m", loopback_policy, entry())
    assert error.reason is Reason.UNSUPPORTED_SCHEME
    assert "generic_schemes" in error.message
    for uri in ("memory://m", "simplecache://m", "smb://host/share/m"):
        error = await failure(uri, policy)
        assert error.reason is Reason.UNSUPPORTED_SCHEME
    anything = SourcePolicy.unrestricted()
    for uri in ("local:///etc/passwd", "nonsense://m"):
        assert (await failure(uri, anything)).reason is Reason.UNSUPPORTED_SCHEME


async def test_a_stored_password_goes_only_where_it_is_for(
    ftp: FtpServer, policy: SourcePolicy
) -> None:
    error = await failure(f"ftp://{ftp.place}/m", policy, entry(host="ftp.example.com"))
    assert error.reason is Reason.SOURCE_NOT_ALLOWED


async def test_loopback_is_refused_where_nobody_allowed_it(ftp: FtpServer) -> None:
    strict = SourcePolicy(generic_schemes=frozenset({"ftp"}))
    error = await failure(f"ftp://{ftp.place}/m", strict, entry())
    assert error.reason is Reason.SOURCE_NOT_ALLOWED


async def test_nobody_at_the_address_is_worth_another_try(policy: SourcePolicy) -> None:
    error = await failure(f"ftp://127.0.0.1:{free_ports(1)[0]}/m", policy, entry())
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNREACHABLE


@pytest.mark.parametrize("name", ["back\\slash", "bell\a"])
async def test_names_that_no_folder_can_hold_are_refused(
    ftp: FtpServer, policy: SourcePolicy, name: str
) -> None:
    ftp.put(f"m/{name}", b"x")
    assert (await failure(f"ftp://{ftp.place}/m", policy, entry())).reason is Reason.UNSAFE_PATH
