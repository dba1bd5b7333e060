"""Packs that no honest server sends."""

import contextlib
import hashlib
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Stalled
from agent.sources import git_pack, git_tree
from agent.sources.listing import Tally
from shared.domain.reasons import Reason

BLOB, OFS_DELTA, REF_DELTA = 3, 6, 7
LIMIT = 1 << 20


def header(kind: int, size: int) -> bytes:
    first, size = (kind << 4) | (size & 15), size >> 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    return bytes([*out, first])


def entry(kind: int, data: bytes, base: bytes = b"", *, says: int | None = None) -> bytes:
    return header(kind, len(data) if says is None else says) + base + zlib.compress(data)


def pack(*entries: bytes, count: int | None = None) -> bytes:
    number = len(entries) if count is None else count
    body = b"PACK" + (2).to_bytes(4, "big") + number.to_bytes(4, "big") + b"".join(entries)
    return body + hashlib.sha1(body).digest()


def delta(base: int, result: int, *instructions: bytes) -> bytes:
    assert max(base, result) < 128
    return bytes([base, result]) + b"".join(instructions)


def refused(data: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(Stalled) as caught:
        git_pack.objects(data, limit_bytes=limit)
    assert caught.value.reason is Reason.INVALID_SOURCE
    return caught.value.message


def test_blobs_and_both_kinds_of_deltas_are_read_under_gits_names() -> None:
    first = entry(BLOB, b"hello")
    name = hashlib.sha1(b"blob 5\0hello").digest()
    copy_and_add = delta(5, 7, b"\x90\x05", b"\x02!!")
    found = git_pack.objects(
        pack(
            first,
            entry(OFS_DELTA, copy_and_add, bytes([len(first)])),
            entry(REF_DELTA, delta(5, 1, b"\x01x"), name),
        ),
        limit_bytes=LIMIT,
    )
    assert sorted(one.data for one in found.values()) == [b"hello", b"hello!!", b"x"]
    assert found[name.hex()].data == b"hello"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no pack"),
        (b"PACK" + bytes(40), "checksum"),
        (pack(entry(BLOB, b"x"), count=2), "cut off"),
        (pack(entry(BLOB, b"x" * 100, says=50)), "not as long"),
        (pack(entry(BLOB, b"x" * 50, says=100)), "not as long"),
        (pack(header(BLOB, 5) + b"not zlib"), "unpacked"),
        (pack(entry(5, b"x")), "unknown kind"),
        (pack(entry(REF_DELTA, delta(5, 1, b"\x01x"), bytes(20))), "no base"),
        (pack(entry(OFS_DELTA, delta(5, 1, b"\x01x"), b"\x7f")), "no base"),
        (
            pack(entry(BLOB, b"hello"), entry(OFS_DELTA, delta(4, 1, b"\x01x"), b"\x0e")),
            "another base",
        ),
        (
            pack(entry(BLOB, b"hello"), entry(OFS_DELTA, delta(5, 9, b"\x90\x09"), b"\x0e")),
            "not there",
        ),
        (
            pack(entry(BLOB, b"hello"), entry(OFS_DELTA, delta(5, 9, b"\x01x"), b"\x0e")),
            "another size",
        ),
        (
            pack(entry(BLOB, b"hello"), entry(OFS_DELTA, delta(5, 1, b"\x00"), b"\x0e")),
            "unknown instruction",
        ),
        (pack(b"\xff" * 12), "too large"),
    ],
)
def test_damage_is_named(data: bytes, says: str) -> None:
    assert says in refused(data)


def test_little_data_that_unpacks_to_much_is_refused_before_it_is_unpacked() -> None:
    bomb = zlib.compress(bytes(50 << 20))
    assert "1 MiB" in refused(pack(header(BLOB, 50 << 20) + bomb))
    assert "not as long" in refused(pack(header(BLOB, 10) + bomb))


@given(st.binary(max_size=200), st.integers(0, 5))
def test_garbage_is_refused_and_nothing_else(data: bytes, count: int) -> None:
    with contextlib.suppress(Stalled):
        git_pack.objects(pack(data, count=count), limit_bytes=LIMIT)


def test_more_objects_than_a_model_has_files_are_refused_before_they_are_read() -> None:
    assert "200,001 files and folders" in refused(pack(entry(BLOB, b"x"), count=200_001))


def test_a_long_chain_of_deltas_is_read_in_no_time() -> None:
    entries = [before := entry(BLOB, b"0" * 50)]
    for number in range(20_000):
        change = delta(50, 50, b"\x90\x2e", b"\x04%04d" % (number % 10_000))
        entries.append(before := entry(OFS_DELTA, change, bytes([len(before)])))
    started = time.monotonic()
    assert len(git_pack.objects(pack(*entries), limit_bytes=64 << 20)) == 10_000
    assert time.monotonic() - started < 5


def test_reading_ends_when_nobody_waits_for_it() -> None:
    seen = 0

    def check() -> None:
        nonlocal seen
        seen += 1
        if seen > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        git_pack.objects(
            pack(*(entry(BLOB, b"%d" % number) for number in range(50))),
            limit_bytes=LIMIT,
            check=check,
        )
    assert seen == 4


def test_folders_that_name_each_other_make_no_endless_number_of_paths() -> None:
    """2**40 paths out of forty folders."""
    blob = git_pack.GitObject(b"blob", b"x")
    objects = {blob.name: blob}
    inside, mode = blob.name, b"100644"
    for _ in range(40):
        data = b"".join(b"%s %s\0" % (mode, name) + bytes.fromhex(inside) for name in (b"a", b"b"))
        tree = git_pack.GitObject(b"tree", data)
        objects[tree.name] = tree
        inside, mode = tree.name, b"40000"
    commit = git_pack.GitObject(b"commit", b"tree %s\n" % inside.encode())
    objects[commit.name] = commit
    with pytest.raises(Stalled, match="more than 200,000 entries"):
        git_tree.files(objects, commit.name, tally=Tally("git+https://host/bomb"))


def test_thousands_of_objects_are_read_in_no_time() -> None:
    entries = [entry(BLOB, b"%d" % number * 400) for number in range(5000)]
    started = time.monotonic()
    assert len(git_pack.objects(pack(*entries), limit_bytes=64 << 20)) == 5000
    assert time.monotonic() - started < 5
