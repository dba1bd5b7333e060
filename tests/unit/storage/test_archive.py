"""Archives: what tools write is unpacked, what is evil or damaged is refused by name, and nothing is ever written elsewhere."""

import gzip
import io
import os
import stat
import struct
import tarfile
import threading
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.errors import FetchError, Stalled
from agent.manifest import ArchiveKind, Strength
from agent.storage.archive import unpack
from agent.storage.errors import Cancelled
from agent.storage.tree import TreeFile
from shared.domain.reasons import Reason
from tests.support.archives import entry, tar_files, tar_of, zip_files, zip_of
from tests.support.disks import failing_disk
from tests.support.trees import read_files, sha256

MIB = 1 << 20
MODEL = {
    "config.json": b"{}",
    "1/model.onnx": os.urandom(3 * MIB + 17),
    "empty": b"",
    "a/déjà/模型.bin": b"unicode",
    "x" * 120 + "/" + "y" * 200: b"long names",
}


class Bench:
    """A folder to unpack into, with neighbours that must stay as they are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.into = root / "staging" / "tree"
        self.into.mkdir(parents=True)
        (root / "staging" / "journal").write_bytes(b"neighbour")

    def unpack(
        self,
        content: bytes,
        kind: ArchiveKind = ArchiveKind.TAR,
        *,
        limit_bytes: int = 64 * MIB,
        max_entries: int = 1000,
    ) -> tuple[TreeFile, ...]:
        packed = self.root / "archive"
        packed.write_bytes(content)
        return unpack(
            packed,
            kind,
            self.into,
            limit_bytes=limit_bytes,
            max_entries=max_entries,
            cancelled=threading.Event(),
        )

    def refuse(
        self, content: bytes, kind: ArchiveKind, reason: Reason, *mentions: str, **limits: int
    ) -> None:
        with pytest.raises(Stalled) as caught:
            self.unpack(content, kind, **limits)
        assert caught.value.reason == reason, caught.value.message
        for words in mentions:
            assert words in caught.value.message
        self.nothing_escaped()

    def nothing_escaped(self) -> None:
        assert sorted(path.name for path in self.root.iterdir()) == ["archive", "staging"]
        assert sorted(path.name for path in (self.root / "staging").iterdir()) == [
            "journal",
            "tree",
        ]
        assert (self.root / "staging" / "journal").read_bytes() == b"neighbour"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def as_tar(content: Mapping[str, bytes]) -> bytes:
    return tar_files(content)


def as_gnu(content: Mapping[str, bytes]) -> bytes:
    return tar_files(content, format_=tarfile.GNU_FORMAT)


def as_gzip(content: Mapping[str, bytes]) -> bytes:
    return gzip.compress(tar_files(content), 1)


def as_gzip_members(content: Mapping[str, bytes]) -> bytes:
    raw = tar_files(content)
    return gzip.compress(raw[:700], 1) + gzip.compress(raw[700:], 1) + b"\0" * 512


def as_zip(content: Mapping[str, bytes]) -> bytes:
    return zip_files(content)


def as_stored_zip(content: Mapping[str, bytes]) -> bytes:
    return zip_files(content, method=zipfile.ZIP_STORED)


def as_prefixed_zip(content: Mapping[str, bytes]) -> bytes:
    return b"#!/bin/sh\nexit 1\n" + zip_files(content)


TAR, TAR_GZ, ZIP = ArchiveKind.TAR, ArchiveKind.TAR_GZ, ArchiveKind.ZIP


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


EVIL_NAMES = [
    ("/etc/passwd", "is absolute"),
    ("../outside", "leaves its folder"),
    ("a/../../outside", "leaves its folder"),
    ("a//b", "leaves its folder"),
    ("..", "leaves its folder"),
    ("a\\..\\b", "backslash"),
    ("a\nb", "control characters"),
    ("n" * 256, "too long"),
]


@pytest.mark.parametrize(("name", "why"), EVIL_NAMES)
@pytest.mark.parametrize("kind", [TAR, TAR_GZ, ZIP])
def test_names_that_leave_the_folder_are_refused(
    bench: Bench, kind: ArchiveKind, name: str, why: str
) -> None:
    match kind:
        case ArchiveKind.TAR:
            content = as_tar({"good": b"1", name: b"evil"})
        case ArchiveKind.TAR_GZ:
            content = as_gzip({"good": b"1", name: b"evil"})
        case ArchiveKind.ZIP:
            content = zip_of([("good", b"1"), (name, b"evil")])
    bench.refuse(content, kind, Reason.UNSAFE_PATH, why)


def test_a_nul_in_a_name_is_refused(bench: Bench) -> None:
    info, data = entry("a", b"1")
    info.pax_headers = {"path": "a\0b"}
    bench.refuse(tar_of([(info, data)]), TAR, Reason.UNSAFE_PATH, "control characters")
    packed = zip_of([("aXb", b"1")]).replace(b"aXb", b"a\0b")
    bench.refuse(packed, ZIP, Reason.UNSAFE_PATH, "control characters")


def test_names_that_are_not_utf_8_are_refused(bench: Bench) -> None:
    packed = tar_files({"aXXXb": b"1"}, format_=tarfile.GNU_FORMAT)
    header = bytearray(packed[:512])
    header[1:4] = b"\xff\xfe\xfd"
    bench.refuse(checksummed(header) + packed[512:], TAR, Reason.UNSAFE_PATH)


def checksummed(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    ("type_", "what"),
    [
        (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"),
        (tarfile.FIFOTYPE, "FIFO"),
        (tarfile.GNUTYPE_SPARSE, "sparse"),
        (b"Q", "unknown type"),
    ],
)
def test_devices_and_other_oddities_are_refused(bench: Bench, type_: bytes, what: str) -> None:
    bench.refuse(tar_of([entry("odd", type_=type_)]), TAR, Reason.ARCHIVE_INVALID, "'odd'", what)


def test_zip_devices_are_refused(bench: Bench) -> None:
    packed = zip_of([("odd", b"")], mode=stat.S_IFIFO | 0o644)
    bench.refuse(packed, ZIP, Reason.ARCHIVE_INVALID, "'odd'")


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type_=tarfile.SYMTYPE, target=target)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type_=tarfile.LNKTYPE, target=target)


def test_links_inside_the_archive_become_hard_links(bench: Bench) -> None:
    files = bench.unpack(
        tar_of(
            [
                symlink("before", "d/real"),
                entry("d/real", b"content"),
                symlink("d/up", "../d/./real"),
                symlink("chain", "before"),
                symlink("folder", "d"),
                symlink("through", "folder/real"),
                hardlink("hard", "d/real"),
            ]
        )
    )
    expected = {
        name: b"content"
        for name in [
            "before",
            "d/real",
            "d/up",
            "chain",
            "folder/real",
            "folder/up",
            "through",
            "hard",
        ]
    }
    assert read_files(bench.into) == expected
    assert {file.path for file in files} == set(expected)
    assert {file.digests[0] for file in files} == {sha256(b"content")}
    assert len({path.stat().st_ino for path in bench.into.rglob("*") if path.is_file()}) == 1
    assert not any(path.is_symlink() for path in bench.into.rglob("*"))


def test_links_in_zips_become_hard_links(bench: Bench) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "real")
        archive.writestr("real", b"content")
    bench.unpack(out.getvalue(), ZIP)
    assert read_files(bench.into) == {"link": b"content", "real": b"content"}


@pytest.mark.parametrize(
    ("links", "reason", "why"),
    [
        ([symlink("evil", "/etc/passwd")], Reason.UNSAFE_PATH, "'evil'"),
        ([symlink("evil", "../outside")], Reason.UNSAFE_PATH, "'evil'"),
        ([symlink("d/evil", "../../staging/journal")], Reason.UNSAFE_PATH, "'d/evil'"),
        ([symlink("a", ".."), symlink("evil", "a/journal")], Reason.UNSAFE_PATH, "leaves"),
        ([symlink("evil", "real/../../x")], Reason.UNSAFE_PATH, "'evil'"),
        ([symlink("evil", "missing")], Reason.ARCHIVE_INVALID, "'missing', which is not in it"),
        ([symlink("evil", "evil")], Reason.ARCHIVE_INVALID, "circle"),
        ([symlink("a", "b"), symlink("b", "a")], Reason.ARCHIVE_INVALID, "circle"),
        ([symlink("d/self", "../d")], Reason.ARCHIVE_INVALID, "holds the folder link"),
        ([symlink("all", ".")], Reason.ARCHIVE_INVALID, "holds the folder link"),
        ([hardlink("evil", "/etc/passwd")], Reason.ARCHIVE_INVALID, "'evil'"),
        ([hardlink("evil", "../journal")], Reason.ARCHIVE_INVALID, "'evil'"),
        ([hardlink("evil", "missing")], Reason.ARCHIVE_INVALID, "no earlier file"),
        ([symlink("l", "/etc"), hardlink("evil", "l/passwd")], Reason.ARCHIVE_INVALID, "'evil'"),
        ([symlink("l", "/tmp"), entry("l/x", b"evil")], Reason.ARCHIVE_INVALID, "'l'"),
        ([symlink("l", "d"), entry("l/x", b"evil")], Reason.ARCHIVE_INVALID, "'l'"),
    ],
)
def test_links_that_lead_out_or_nowhere_are_refused(
    bench: Bench, links: list[tuple[tarfile.TarInfo, bytes]], reason: Reason, why: str
) -> None:
    bench.refuse(tar_of([entry("real", b"1"), entry("d/x", b"2"), *links]), TAR, reason, why)


def test_folder_links_cannot_multiply_without_end(bench: Bench) -> None:
    files = [entry(f"d/{number}", b"") for number in range(90)]
    links = [symlink(f"l{number}", "d") for number in range(90)]
    bench.refuse(tar_of(files + links), TAR, Reason.ARCHIVE_TOO_LARGE, "1000")


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([entry("a", b"1"), entry("a", b"2")], "'a' stands in it twice"),
        ([entry("a", b"1"), entry("./a", b"2")], "'a' stands in it twice"),
        ([entry("a", b"1"), entry("a/b", b"2")], "'a' is both a file and a folder"),
        ([entry("a/b", b"1"), entry("a", b"2")], "'a' is both a file and a folder"),
        ([entry("a", b"1"), entry("a", type_=tarfile.DIRTYPE)], "both a file and a folder"),
        ([entry("a", b"1"), symlink("a", "b")], "'a' stands in it twice"),
        ([symlink("a", "b"), entry("a", b"1")], "'a' stands in it twice"),
    ],
)
def test_entries_that_collide_are_refused(
    bench: Bench, entries: list[tuple[tarfile.TarInfo, bytes]], why: str
) -> None:
    bench.refuse(tar_of(entries), TAR, Reason.ARCHIVE_INVALID, why)


def test_duplicates_in_zips_are_refused(bench: Bench) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed = zip_of([("a", b"1"), ("a", b"2")])
    bench.refuse(packed, ZIP, Reason.ARCHIVE_INVALID, "'a' stands in it twice")


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
    data = os.urandom(5000)
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
