"""Bombs, damage and full disks: refused with a reason that names the entry."""

import gzip
import os
import random
import struct
import tarfile
import threading
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from agent.errors import FetchError
from agent.manifest import ArchiveKind
from agent.storage.archive import unpack
from agent.storage.errors import Cancelled
from shared.domain.reasons import Reason
from tests.support.archives import tar_files, zip_files
from tests.support.disks import failing_disk
from tests.support.trees import read_files
from tests.support.unpacking import (
    MIB,
    TAR,
    TAR_GZ,
    ZIP,
    Bench,
    as_gzip,
    as_stored_zip,
    as_tar,
    as_zip,
)


def test_bombs_are_stopped_at_the_limit_whatever_their_headers_say(bench: Bench) -> None:
    zeros = bytes(8 * MIB)
    packed = gzip.compress(tar_files({"small": b"1", "bomb": zeros}))
    assert len(packed) < 64_000
    bench.refuse(packed, TAR_GZ, Reason.ARCHIVE_TOO_LARGE, "'bomb'", limit_bytes=MIB)
    packed = zip_files({"bomb": zeros})
    bench.refuse(packed, ZIP, Reason.ARCHIVE_TOO_LARGE, "'bomb'", limit_bytes=MIB)
    liar = packed.replace(struct.pack("<L", len(zeros)), struct.pack("<L", 10))
    bench.refuse(liar, ZIP, Reason.ARCHIVE_INVALID, "'bomb'", limit_bytes=MIB)
    assert sum(len(data) for data in read_files(bench.into).values()) <= 2 * MIB


def test_a_bomb_in_many_files_is_stopped_in_sum(bench: Bench) -> None:
    many = {f"f{number}": bytes(MIB) for number in range(8)}
    for packed, kind in [(as_gzip(many), TAR_GZ), (as_zip(many), ZIP)]:
        bench.refuse(packed, kind, Reason.ARCHIVE_TOO_LARGE, "'f4'", limit_bytes=4 * MIB + 9)
        assert sum(len(data) for data in read_files(bench.into).values()) <= 4 * MIB + 9


def test_exactly_the_limit_is_allowed(bench: Bench) -> None:
    bench.unpack(as_tar({"a": b"12345", "b": b"67890"}), limit_bytes=10, max_entries=2)
    bench.refuse(
        as_tar({"a": b"12345", "b": b"678901"}), TAR, Reason.ARCHIVE_TOO_LARGE, limit_bytes=10
    )


@pytest.mark.parametrize("kind", [TAR, ZIP])
def test_too_many_entries_are_refused(bench: Bench, kind: ArchiveKind) -> None:
    many = {f"f{number}": b"" for number in range(11)}
    packed = as_tar(many) if kind is TAR else as_zip(many)
    bench.refuse(packed, kind, Reason.ARCHIVE_TOO_LARGE, "'f10'", "10", max_entries=10)


def test_huge_extended_headers_cost_no_memory(bench: Bench) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    header = info.tobuf(tarfile.GNU_FORMAT)
    tracemalloc.start()
    bench.refuse(header + bytes(1024), TAR, Reason.ARCHIVE_INVALID, "extended header")
    chain = tarfile.TarInfo("pax")
    chain.type, chain.size = tarfile.XHDTYPE, 0
    bench.refuse(
        chain.tobuf(tarfile.GNU_FORMAT) * 5000, TAR, Reason.ARCHIVE_INVALID, "extended headers"
    )
    assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    tracemalloc.stop()


def test_an_endless_stream_of_padding_is_stopped(bench: Bench) -> None:
    packed = gzip.compress(tar_files({"a": b"1"}) + bytes(32 * MIB))
    bench.refuse(packed, TAR_GZ, Reason.ARCHIVE_TOO_LARGE, limit_bytes=MIB, max_entries=10)


@pytest.mark.parametrize("kind", [TAR, TAR_GZ, ZIP])
def test_an_archive_that_is_cut_off_anywhere_is_refused(bench: Bench, kind: ArchiveKind) -> None:
    content = {"a": b"x" * 700, "b": os.urandom(900)}
    packed = {TAR: as_tar, TAR_GZ: as_gzip, ZIP: as_zip}[kind](content)
    end = len(packed.rstrip(b"\0")) if kind is TAR else len(packed)
    for length in range(0, end, 37):
        bench.refuse(packed[:length], kind, Reason.ARCHIVE_INVALID)


def test_a_cut_names_the_entry_that_it_is_in(bench: Bench) -> None:
    packed = as_tar({"whole": b"1", "weights.bin": b"x" * 5000})
    bench.refuse(packed[:3000], TAR, Reason.ARCHIVE_INVALID, "cut off", "'weights.bin'")


def test_damaged_content_is_noticed(bench: Bench) -> None:
    data = random.Random(7).randbytes(5000)
    stored = as_stored_zip({"weights.bin": data}).replace(data, data[:-1] + bytes([data[-1] ^ 1]))
    bench.refuse(stored, ZIP, Reason.ARCHIVE_INVALID, "'weights.bin'", "damaged")
    packed = bytearray(as_gzip({"weights.bin": data}))
    packed[len(packed) // 2] ^= 0x10
    bench.refuse(bytes(packed), TAR_GZ, Reason.ARCHIVE_INVALID, "damaged")
    packed = bytearray(as_gzip({"weights.bin": data}))
    packed[-5] ^= 1
    bench.refuse(bytes(packed), TAR_GZ, Reason.ARCHIVE_INVALID, "damaged")
    bench.refuse(as_gzip({"a": data}) + b"garbage", TAR_GZ, Reason.ARCHIVE_INVALID, "garbage")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", os.urandom(2000)])
@pytest.mark.parametrize("kind", [TAR, TAR_GZ, ZIP])
def test_what_is_no_archive_is_refused(bench: Bench, kind: ArchiveKind, content: bytes) -> None:
    bench.refuse(content, kind, Reason.ARCHIVE_INVALID)


def test_an_archive_without_files_is_refused(bench: Bench) -> None:
    for content, kind in [(as_tar({}), TAR), (as_gzip({}), TAR_GZ), (as_zip({}), ZIP)]:
        bench.refuse(content, kind, Reason.ARCHIVE_INVALID, "no file")


def test_encrypted_and_exotic_zips_say_what_they_are(bench: Bench) -> None:
    packed = bytearray(as_zip({"secret": b"1"}))
    directory = packed.index(b"PK\1\2")
    packed[directory + 8] |= 1
    bench.refuse(bytes(packed), ZIP, Reason.ARCHIVE_INVALID, "'secret'", "encrypted")
    packed_lzma = zip_files({"a": b"1"}, method=zipfile.ZIP_LZMA)
    bench.refuse(packed_lzma, ZIP, Reason.ARCHIVE_INVALID, "'a'", "lzma")


def test_zip_headers_that_disagree_are_refused(bench: Bench) -> None:
    packed = as_zip({"good": b"1"})
    bench.refuse(packed.replace(b"good", b"evil", 1), ZIP, Reason.ARCHIVE_INVALID, "'good'")


def test_a_full_disk_says_which_entry_did_not_fit(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "archive").write_bytes(as_tar({"a": b"1", "weights": b"2"}))
    with pytest.raises(FetchError, match="'weights'") as caught:
        unpack(
            tmp_path / "archive",
            TAR,
            tmp_path / "into",
            limit_bytes=10,
            cancelled=threading.Event(),
            disk=failing_disk(28, at="write", after=1),
        )
    assert caught.value.reason == Reason.INSUFFICIENT_STORAGE


def test_unpacking_stops_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "archive").write_bytes(as_zip({"a": b"1"}))
    stop = threading.Event()
    stop.set()
    for kind in (ZIP, TAR):
        with pytest.raises(Cancelled):
            unpack(tmp_path / "archive", kind, tmp_path / "into", limit_bytes=10, cancelled=stop)
