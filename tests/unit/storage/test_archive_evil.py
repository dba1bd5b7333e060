"""Evil entries: refused by name, and nothing is ever written elsewhere."""

import io
import stat
import struct
import tarfile
import warnings
import zipfile

import pytest

from agent.manifest import ArchiveKind
from shared.domain.reasons import Reason
from tests.support.archives import entry, hardlink, symlink, tar_files, tar_of, zip_of
from tests.support.trees import read_files, sha256
from tests.support.unpacking import (
    TAR,
    TAR_GZ,
    ZIP,
    Bench,
    as_gzip,
    as_tar,
)

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


@pytest.mark.parametrize("place", [2**63 - 1, 2**63, 2**64 - 1])
def test_a_zip_that_points_beyond_every_file_is_refused(bench: Bench, place: int) -> None:
    packed = zip_of([("a", b"1")])
    directory = packed.index(b"PK\1\2")
    record = bytearray(packed[directory : packed.index(b"PK\5\6")])
    wide = struct.pack("<2HQ", 1, 8, place)
    struct.pack_into("<H", record, 30, len(wide))
    struct.pack_into("<L", record, 42, 0xFFFFFFFF)
    record += wide
    end = bytearray(packed[packed.index(b"PK\5\6") :])
    struct.pack_into("<L", end, 12, len(record))
    bench.refuse(
        packed[:directory] + bytes(record) + bytes(end), ZIP, Reason.ARCHIVE_INVALID, "in no file"
    )


def test_a_tar_entry_of_a_size_with_thousands_of_digits_is_refused(bench: Bench) -> None:
    info, content = entry("a", b"1")
    info.pax_headers = {"size": "9" * 5000}
    bench.refuse(tar_of([(info, content)]), TAR, Reason.ARCHIVE_INVALID, "has the size")
