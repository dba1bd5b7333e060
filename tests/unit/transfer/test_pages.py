"""Past the page cache or through it: when, and that the bytes are the same."""

import mmap
import os
from pathlib import Path

import pytest

from agent.transfer.pages import PageCache, Writer, Writing, cache_memory, past_cache

GIB = 1 << 30


@pytest.mark.parametrize(
    ("writing", "size", "past"),
    [
        (Writing.AUTO, 4 * GIB, False),
        (Writing.AUTO, 4 * GIB + 1, True),
        (Writing.DIRECT, 1, True),
        (Writing.BUFFERED, 500 * GIB, False),
    ],
)
def test_a_model_that_fits_into_an_eighth_of_memory_stays_in_it(
    writing: Writing, size: int, past: bool
) -> None:
    assert past_cache(writing, size, memory=32 * GIB) is past


def test_there_is_some_memory_for_a_cache() -> None:
    assert cache_memory() > 0


def test_who_writes_past_the_cache_goes_on_so_when_others_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.transfer.pages.cache_memory", lambda: 32 * GIB)
    cache = PageCache(Writing.AUTO)
    with cache.shared(3 * GIB) as first:
        assert not first()
        with cache.shared(2 * GIB) as second:
            assert first()
            assert second()
        assert first()
        with cache.shared(GIB) as third:
            assert not third()


def aligned(content: bytes) -> memoryview:
    buffer = mmap.mmap(-1, len(content))
    buffer.write(content)
    return memoryview(buffer)


@pytest.mark.parametrize("direct", [True, False])
def test_any_offset_and_any_length_may_be_written(tmp_path: Path, direct: bool) -> None:
    content = os.urandom(5 * 4096 + 77)
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    writer = Writer(fd, direct=lambda: direct)
    for start, end in [(0, 8192), (8192, 8200), (8200, 12288), (12288, len(content))]:
        writer.write(aligned(content[start:end]), start)
    os.close(fd)
    assert (tmp_path / "f").read_bytes() == content


def test_what_the_file_system_refuses_to_take_directly_goes_through_the_cache(
    tmp_path: Path,
) -> None:
    """Memory that is not aligned is refused by every file system that writes directly at all."""
    content = os.urandom(3 * 4096)
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    writer = Writer(fd, direct=lambda: True)
    writer.write(aligned(b"x" + content)[1:], 0)
    os.close(fd)
    assert (tmp_path / "f").read_bytes() == content


def test_direct_writes_leave_nothing_in_the_cache(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    writer = Writer(fd, direct=lambda: True)
    writer.write(aligned(os.urandom(16 * 4096)), 0)
    direct = writer.is_direct
    os.close(fd)
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        os.preadv(fd, [bytearray(4096)], 8 * 4096, os.RWF_NOWAIT)
        cached = True
    except BlockingIOError:
        cached = False
    os.close(fd)
    # A file system in memory takes the flag, or refuses it, and keeps the bytes anyway.
    assert cached is not direct or in_memory(tmp_path)


def test_a_write_goes_past_the_cache_as_soon_as_that_is_asked_for(tmp_path: Path) -> None:
    full = [False, True, True, False]
    content = os.urandom(4 * 4096)
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    writer = Writer(fd, direct=full.pop)
    went = []
    for start in range(0, len(content), 4096):
        writer.write(aligned(content[start : start + 4096]), start)
        went.append(writer.is_direct)
    os.close(fd)
    assert (tmp_path / "f").read_bytes() == content
    assert went == [False, True, True, False] or in_memory(tmp_path)


def in_memory(folder: Path) -> bool:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    holding = max((m for m in mounts if folder.is_relative_to(m[1])), key=lambda m: len(m[1]))
    return holding[2] == "tmpfs"
