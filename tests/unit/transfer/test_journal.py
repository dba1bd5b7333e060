import errno
import os
from pathlib import Path

import pytest

from agent.manifest import Algorithm, Digest, RemoteFile
from agent.transfer.journal import Claim, Journal, file_id
from agent.transfer.parts import Range

A, B = Claim(Range(0, 10), 1), Claim(Range(10, 20), 2)


def reopened(folder: Path, file: str = "f") -> tuple[Claim, ...]:
    journal = Journal(folder)
    try:
        return journal.claims(file)
    finally:
        journal.close()


def write(folder: Path, *claims: Claim) -> None:
    journal = Journal(folder)
    for claim in claims:
        journal.add("f", claim)
    journal.close()


def test_claims_survive_in_offset_order(tmp_path: Path) -> None:
    write(tmp_path, B, A)
    assert reopened(tmp_path) == (A, B)


def test_a_torn_last_line_is_cut_off_and_writing_goes_on_after_it(tmp_path: Path) -> None:
    write(tmp_path, A, B)
    log = tmp_path / "parts.log"
    log.write_bytes(log.read_bytes()[:-3])
    write(tmp_path, Claim(Range(20, 30), 3))
    assert reopened(tmp_path) == (A, Claim(Range(20, 30), 3))


def test_a_damaged_line_ends_what_is_believed(tmp_path: Path) -> None:
    write(tmp_path, A, B)
    log = tmp_path / "parts.log"
    log.write_bytes(log.read_bytes().replace(b"[0,10]", b"[0,11]"))
    assert reopened(tmp_path) == ()


def test_a_dropped_file_has_no_claims_and_others_keep_theirs(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.add("f", A)
    journal.add("g", B)
    journal.drop("f")
    journal.close()
    assert reopened(tmp_path) == ()
    assert reopened(tmp_path, "g") == (B,)


def test_of_overlapping_claims_the_younger_is_kept(tmp_path: Path) -> None:
    """The older one's bytes were not there any more, or they would not have come again."""
    write(tmp_path, A, B, Claim(Range(5, 12), 7))
    assert reopened(tmp_path) == (Claim(Range(5, 12), 7),)
    write(tmp_path, B, A)
    assert reopened(tmp_path) == (A, B)


def test_a_line_for_which_the_disk_had_no_room_takes_no_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.add("f", A)
    write, room = os.write, 7

    def full(fd: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done, room = write(fd, data[:room]), 0
        return done

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            journal.add("f", Claim(Range(30, 40), 3))
    journal.add("f", B)
    journal.close()
    assert reopened(tmp_path) == (A, B)


def test_a_journal_that_cannot_be_opened_keeps_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, A)
    with (tmp_path / "parts.log").open("a") as log:
        log.write("torn")

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = len(list(Path("/proc/self/fd").iterdir()))
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="Input/output"):
            Journal(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_journal_of_files_that_changed_again_and_again_is_rewritten(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(1500):
        journal.add(f"old{number}", A)
        journal.drop(f"old{number}")
    journal.add("f", B)
    journal.close()
    before = (tmp_path / "parts.log").stat().st_size
    assert reopened(tmp_path) == (B,)
    assert (tmp_path / "parts.log").stat().st_size < before / 100


@pytest.mark.parametrize(
    "other",
    [
        RemoteFile("p", 6, "v", "l"),
        RemoteFile("p", 5, "w", "l"),
        RemoteFile("q", 5, "v", "l"),
        RemoteFile("p", 5, "v", "m"),
        RemoteFile("p", 5, "v", "l", (Digest(Algorithm.MD5, "00"),)),
    ],
)
def test_any_change_at_the_source_gives_a_file_another_name_in_the_journal(
    other: RemoteFile,
) -> None:
    file = RemoteFile("p", 5, "v", "l")
    assert file_id(file) == file_id(RemoteFile("p", 5, "v", "l"))
    assert file_id(file) != file_id(other)


def at(locator: str, validator: str, *digests: Digest) -> RemoteFile:
    return RemoteFile("weights", 10, validator, locator, digests)


@pytest.mark.parametrize("algorithm", [Algorithm.SHA256, Algorithm.GIT_SHA1])
def test_content_that_a_digest_names_is_the_same_in_another_commit(algorithm: Algorithm) -> None:
    digest, other = Digest(algorithm, "1" * 40), Digest(algorithm, "2" * 40)
    assert file_id(at("c1/weights", "v1", digest)) == file_id(at("c2/weights", "v2", digest))
    assert file_id(at("c1/weights", "v1", digest)) != file_id(at("c1/weights", "v1", other))


def test_content_that_only_a_checksum_tells_is_another_in_another_place() -> None:
    crc = Digest(Algorithm.CRC32C, "0" * 8)
    assert file_id(at("a", "v1", crc)) != file_id(at("b", "v1", crc))
    assert file_id(at("a", "v1", crc)) != file_id(at("a", "v2", crc))
