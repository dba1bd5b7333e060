"""file:// on this machine's own disk."""

import os
import socket
from pathlib import Path

import pytest

from agent.errors import SourceChanged, Stalled
from agent.manifest import ArchiveKind
from agent.origin import LocalPath
from agent.policy import SourcePolicy
from shared.domain.reasons import Reason
from tests.component.sources.reading import opened, paths, resolved


async def failure(uri: str, policy: SourcePolicy) -> Stalled:
    with pytest.raises(Stalled) as caught:
        await resolved(uri, policy)
    return caught.value


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "weights").write_bytes(b"12345")
    (folder / "sub" / "empty").touch()
    return folder


async def test_a_folder_is_listed_and_files_are_found(
    model: Path, loopback_policy: SourcePolicy
) -> None:
    async with opened(f"file://{model}", loopback_policy) as source:
        manifest = await source.resolve()
        assert paths(manifest) == ["sub/empty", "weights"]
        assert manifest.size == 5
        found = await source.sign(manifest.files[1])
        assert found == LocalPath(model / "weights")


async def test_one_file_and_one_archive(tmp_path: Path, loopback_policy: SourcePolicy) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    (tmp_path / "m.zip").write_bytes(b"x")
    assert paths(await resolved(f"file://{tmp_path}/m.onnx", loopback_policy)) == ["m.onnx"]
    archive = await resolved(f"file://{tmp_path}/m.zip", loopback_policy)
    assert archive.archive is ArchiveKind.ZIP


async def test_links_to_files_are_followed_inside_what_is_allowed(
    model: Path, tmp_path: Path, loopback_policy: SourcePolicy
) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "abc").write_bytes(b"blob")
    (model / "linked").symlink_to("../blobs/abc")
    async with opened(f"file://{model}", loopback_policy) as source:
        manifest = await source.resolve()
        assert paths(manifest) == ["linked", "sub/empty", "weights"]
        assert await source.sign(manifest.files[0]) == LocalPath(tmp_path / "blobs" / "abc")


async def test_links_that_lead_out_are_refused_when_listing_and_when_reading(
    model: Path, loopback_policy: SourcePolicy
) -> None:
    async with opened(f"file://{model}", loopback_policy) as source:
        manifest = await source.resolve()
        (model / "weights").unlink()
        (model / "weights").symlink_to("/etc/hostname")
        with pytest.raises(Stalled) as caught:
            await source.sign(manifest.files[1])
        assert caught.value.reason is Reason.SOURCE_NOT_ALLOWED
    error = await failure(f"file://{model}", loopback_policy)
    assert error.reason is Reason.SOURCE_NOT_ALLOWED
    assert "weights" in error.message


async def test_links_to_folders_and_special_files_are_refused(
    model: Path, loopback_policy: SourcePolicy
) -> None:
    (model / "loop").symlink_to(".")
    assert (await failure(f"file://{model}", loopback_policy)).reason is Reason.UNSAFE_PATH
    (model / "loop").unlink()
    os.mkfifo(model / "pipe")
    assert (await failure(f"file://{model}", loopback_policy)).reason is Reason.UNSAFE_PATH
    (model / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(model / "s"))
        assert (await failure(f"file://{model}", loopback_policy)).reason is Reason.UNSAFE_PATH


async def test_names_that_are_not_utf8_are_refused(
    model: Path, loopback_policy: SourcePolicy
) -> None:
    os.mknod(os.fsencode(model) + b"/\xff")
    assert (await failure(f"file://{model}", loopback_policy)).reason is Reason.UNSAFE_PATH


async def test_a_changed_file_is_noticed(model: Path, loopback_policy: SourcePolicy) -> None:
    async with opened(f"file://{model}", loopback_policy) as source:
        before = await source.resolve()
        (model / "weights").write_bytes(b"another")
        with pytest.raises(SourceChanged):
            await source.sign(before.files[1])
        assert (await source.resolve()).revision != before.revision


async def test_only_listed_folders_may_be_read(model: Path) -> None:
    for policy in (SourcePolicy(), SourcePolicy(allowed_file_roots=(model / "sub",))):
        error = await failure(f"file://{model}", policy)
        assert error.reason is Reason.SOURCE_NOT_ALLOWED
    assert await resolved(f"file://{model}", SourcePolicy.unrestricted())


async def test_what_is_not_there_is_not_found_and_a_bare_folder_is_empty(
    tmp_path: Path, loopback_policy: SourcePolicy
) -> None:
    missing = await failure(f"file://{tmp_path}/missing", loopback_policy)
    assert missing.reason is Reason.SOURCE_NOT_FOUND
    (tmp_path / "bare" / "deep").mkdir(parents=True)
    bare = await failure(f"file://{tmp_path}/bare", loopback_policy)
    assert bare.reason is Reason.SOURCE_EMPTY


async def test_a_path_outside_does_not_even_tell_whether_it_exists(
    tmp_path: Path, loopback_policy: SourcePolicy
) -> None:
    there = await failure("file:///etc/hostname", loopback_policy)
    missing = await failure("file:///etc/no-such-file", loopback_policy)
    assert there.reason is missing.reason is Reason.SOURCE_NOT_ALLOWED
