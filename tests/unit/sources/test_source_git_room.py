"""One temporary folder for all copies from git."""

import tempfile
from pathlib import Path

import pytest

from agent.daemons import Abandoned
from agent.errors import Stalled
from agent.sources.git_room import Room, Stay

KIB = 1 << 10


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def enter(room: Room, stay: Stay, **blobs: bytes) -> dict[str, Path] | None:
    found = room.enter(stay, blobs, "git+https://host/repo", lambda: None)
    return None if found is None else dict(found)


def test_who_finds_no_room_gets_it_when_another_leaves(tmp_path: Path) -> None:
    room, first, second = Room(64 * KIB), Stay(), Stay()
    places = enter(room, first, a=b"a" * 40 * KIB)
    assert places is not None
    assert places["a"].read_bytes() == b"a" * 40 * KIB
    assert enter(room, second, b=b"b" * 40 * KIB) is None
    room.leave(first)
    assert enter(room, second, b=b"b" * 40 * KIB) is not None
    room.leave(second)
    assert list(tmp_path.iterdir()) == []


def test_equal_contents_lie_there_once_for_as_long_as_anybody_needs_them(tmp_path: Path) -> None:
    room, first, second = Room(64 * KIB), Stay(), Stay()
    enter(room, first, a=b"a" * 40 * KIB)
    places = enter(room, second, other=b"a" * 40 * KIB)
    assert places is not None
    room.leave(first)
    assert places["other"].exists()
    room.leave(second)
    assert list(tmp_path.iterdir()) == []


def test_small_files_count_as_the_blocks_that_they_take() -> None:
    room = Room(64 * KIB)
    assert enter(room, Stay(), **{f"f{n}": b"%d" % n for n in range(16)}) is not None
    with pytest.raises(Stalled, match="on disk"):
        enter(room, Stay(), **{f"f{n}": b"%d" % n for n in range(17)})


def test_who_has_left_does_not_come_in_late(tmp_path: Path) -> None:
    room, stay = Room(64 * KIB), Stay()
    room.leave(stay)
    with pytest.raises(Abandoned):
        enter(room, stay, a=b"a")
    assert list(tmp_path.iterdir()) == []


def test_who_is_called_away_leaves_nothing(tmp_path: Path) -> None:
    room, stay = Room(64 * KIB), Stay()

    def check() -> None:
        if stay.sizes:
            raise Abandoned

    with pytest.raises(Abandoned):
        room.enter(stay, {"a": b"a", "b": b"b"}, "git+https://host/repo", check)
    room.leave(stay)
    assert list(tmp_path.iterdir()) == []
