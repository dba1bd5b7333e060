"""Archives as tools write them: unpacked, with the digests of their files."""

import io
import stat
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.manifest import ArchiveKind, Strength
from agent.storage.archive import unpack
from tests.support.archives import entry, tar_of
from tests.support.trees import read_files, sha256
from tests.support.unpacking import (
    MODEL,
    TAR,
    TAR_GZ,
    ZIP,
    Bench,
    as_gnu,
    as_gzip,
    as_gzip_members,
    as_prefixed_zip,
    as_stored_zip,
    as_tar,
    as_zip,
)


@pytest.mark.parametrize(
    ("pack", "kind"),
    [
        (as_tar, TAR),
        (as_gnu, TAR),
        (as_gzip, TAR_GZ),
        (as_gzip_members, TAR_GZ),
        (as_zip, ZIP),
        (as_stored_zip, ZIP),
        (as_prefixed_zip, ZIP),
    ],
)
def test_what_tools_write_is_unpacked_with_the_digests_of_its_files(
    bench: Bench, pack: Callable[[Mapping[str, bytes]], bytes], kind: ArchiveKind
) -> None:
    files = bench.unpack(pack(MODEL), kind)
    assert read_files(bench.into) == MODEL
    assert {file.path: (file.size, file.digests[0]) for file in files} == {
        path: (len(data), sha256(data)) for path, data in MODEL.items()
    }


def test_a_tar_made_by_tar_itself(bench: Bench, tmp_path: Path) -> None:
    source = tmp_path / "staging" / "tree"
    (source / "1").mkdir()
    (source / "1" / "model.onnx").write_bytes(b"weights")
    (source / "2").mkdir()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(source, arcname=".")
    assert [file.path for file in bench.unpack(out.getvalue())] == ["1/model.onnx"]
    assert (bench.into / "2").is_dir()


def test_what_an_interrupted_attempt_left_is_removed_first(bench: Bench) -> None:
    (bench.into / "a" / "b").mkdir(parents=True)
    (bench.into / "a" / "b" / "left").write_bytes(b"x")
    bench.unpack(as_tar({"a": b"now a file"}))
    assert read_files(bench.into) == {"a": b"now a file"}


def test_files_carry_what_the_archive_itself_was_verified_by(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "archive").write_bytes(as_tar({"a": b"1"}))
    (file,) = unpack(
        tmp_path / "archive",
        TAR,
        tmp_path / "into",
        limit_bytes=10,
        cancelled=threading.Event(),
        verified_by=Strength.CRC32C,
        validator="etag",
    )
    assert (file.verified_by, file.validator) == (Strength.CRC32C, "etag")


def test_executables_stay_executable_and_no_other_bit_survives(bench: Bench) -> None:
    bench.unpack(tar_of([entry("tool", b"1", mode=0o6711), entry("data", b"2", mode=0o000)]))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in bench.into.iterdir()}
    assert modes == {"tool": 0o755, "data": 0o644}


def test_a_zip_that_is_large_enough_for_zip64(bench: Bench) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive, archive.open("a", "w", force_zip64=True) as file:
        file.write(b"content")
    bench.unpack(out.getvalue(), ZIP)
    assert read_files(bench.into) == {"a": b"content"}


def test_a_zip64_directory_is_read(bench: Bench) -> None:
    packed = as_zip({"a": b"1", "b": b"2"})
    end = packed.rindex(b"PK\5\6")
    fields = list(struct.unpack("<4s4H2LH", packed[end:]))
    end64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, fields[3], fields[4], fields[5], fields[6]
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    fields[3], fields[4], fields[5], fields[6] = 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF
    bench.unpack(packed[:end] + end64 + locator + struct.pack("<4s4H2LH", *fields), ZIP)
    assert read_files(bench.into) == {"a": b"1", "b": b"2"}
