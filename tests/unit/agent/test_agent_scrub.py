"""Published files are read again, slowly, and what rotted is found."""

import asyncio
import errno
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.node import scrub
from agent.node.scrub import Scrub, load, save
from agent.planning.scrub import Reading, bytes_per_second, next_files, next_tree
from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support.trees import EPOCH, KEY, publish, strays

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PERIOD = timedelta(days=14)
DAY = timedelta(days=1)


def next_of(published: dict[str, datetime], readings: dict[str, Reading]) -> str | None:
    """Of trees that are read in no time."""
    sizes = dict.fromkeys(published, 1)
    return next_tree(published, readings, sizes=sizes, now=NOW, period=PERIOD)


def test_the_tree_that_was_checked_longest_ago_is_next() -> None:
    published = {"a": NOW - 20 * DAY, "b": NOW - 40 * DAY, "c": NOW - 3 * DAY}
    readings = {"b": Reading(published["b"], ended=NOW - 15 * DAY)}
    assert next_of(published, {}) == "b"
    assert next_of(published, readings) == "a"
    readings["a"] = Reading(published["a"], ended=NOW - DAY)
    assert next_of(published, readings) == "b"
    readings["b"] = Reading(published["b"], ended=NOW - DAY)
    assert next_of(published, readings) is None


def test_a_reading_that_began_is_ended_first_unless_its_tree_was_replaced() -> None:
    published = {"a": NOW - 20 * DAY, "b": NOW - 40 * DAY}
    begun = {"a": Reading(published["a"], after="weights-3")}
    assert next_of(published, begun) == "a"
    old = {"a": Reading(NOW - 50 * DAY, after="weights-3")}
    assert next_of(published, old) == "b"


TREES = st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 20)), min_size=1, max_size=12)


@given(TREES)
def test_every_tree_is_read_within_the_period_whenever_it_was_published(
    trees: list[tuple[int, int]],
) -> None:
    """Bytes and day of publication."""
    sizes = {str(number): size for number, (size, _) in enumerate(trees)}
    published = {str(number): NOW + day * DAY for number, (_, day) in enumerate(trees)}
    rate = bytes_per_second(sum(sizes.values()), PERIOD)
    readings: dict[str, Reading] = {}
    now, end, read = max(published.values()), NOW + 80 * DAY, 0
    while now < end:
        key = next_tree(published, readings, sizes=sizes, now=now, period=PERIOD)
        if key is None:
            now += timedelta(hours=4)
            continue
        before = readings[key].ended if key in readings else None
        now += timedelta(seconds=sizes[key] / rate)
        read += sizes[key]
        readings[key] = Reading(published[key], ended=now)
        # The first time it may be late, where some were published long before.
        if before is not None:
            assert now - before <= PERIOD
    assert read <= sum(sizes.values()) * (80 / (14 * 0.9) + 2)


def test_files_come_in_order_a_bounded_number_at_a_time() -> None:
    gib = 1 << 30
    files = [("d", 5), ("b", gib), ("a", gib // 2), ("c", gib // 2)]
    assert next_files(files, "") == ("a",)
    assert next_files(files, "a") == ("b",)
    assert next_files(files, "b") == ("c", "d")
    assert next_files(files, "d") == ()
    assert len(next_files([(f"{n:05}", 0) for n in range(5000)], "")) == 1000


def test_the_whole_disk_is_read_once_in_the_period() -> None:
    tib = 1 << 40
    assert bytes_per_second(20 * tib, PERIOD) * PERIOD.total_seconds() > 20 * tib
    assert bytes_per_second(20 * tib, PERIOD) < 40 << 20
    assert bytes_per_second(0, PERIOD) > 0


def test_notes_survive_a_restart_and_garbage_means_a_new_beginning(tmp_path: Path) -> None:
    readings = {"a": Reading(EPOCH, "x", NOW), "b": Reading(EPOCH)}
    save(tmp_path, readings)
    assert load(tmp_path) == readings
    for garbage in (b"", b"[]", b'{"a": 1}', b"\xff", b'{"a": {"publishedAt": "x"}}'):
        (tmp_path / "scrub").write_bytes(garbage)
        assert load(tmp_path) == {}


class Scene:
    """A store, a scrub of it, and what was found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store.open(root)
        self.busy = False
        self.found: asyncio.Queue[tuple[str, tuple[str, ...]]] = asyncio.Queue()
        self.bytes = 0

    def scrub(self) -> Scrub:
        return Scrub(
            self.store,
            self.root,
            period=PERIOD,
            busy=lambda: self.busy,
            found=lambda key, damaged: self.found.put_nowait((key, damaged)),
            read=self._count,
            clock=lambda: NOW,
        )

    def _count(self, count: int) -> None:
        self.bytes += count

    async def run_until_ended(self, *keys: str) -> None:
        """These published trees, or all of them, were read to their end."""
        running = asyncio.create_task(self.scrub().run())
        try:
            async with asyncio.timeout(20):
                while not all(  # noqa: ASYNC110  # the file is the truth
                    (reading := load(self.root / ".localmodel").get(key)) and reading.ended
                    for key in keys or self.store.trees()
                ):
                    await asyncio.sleep(0.02)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.store.close()


def rot(path: Path) -> None:
    """Other bytes, the same size and time."""
    times = path.stat()
    path.write_bytes(os.urandom(times.st_size))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


async def test_rot_is_found_told_and_shown_by_the_next_look(scene: Scene, tmp_path: Path) -> None:
    publish(scene.store, {"a": b"1" * 9000, "d/b": os.urandom(3_000_000), "empty": b""})
    publish(scene.store, {"fine": b"2" * 5000}, uri="hf://o/m")
    rot(tmp_path / "models" / KEY / "d/b")
    assert scene.store.inspect(KEY) == ()
    await scene.run_until_ended()
    assert scene.found.get_nowait() == (KEY, ("d/b",))
    assert scene.found.empty()
    assert scene.store.inspect(KEY) == ("d/b",)
    assert scene.store.inspect(storage_key("hf://o/m")) == ()
    assert scene.bytes >= 3_000_000
    assert strays(scene.store, tmp_path) == ["scrub"]


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
async def test_what_cannot_be_read_any_more_is_damaged_and_the_reading_goes_on(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    publish(scene.store, {"a": b"1" * 9000, "b": b"2" * 9000, "c": b"3" * 9000})
    bad = (tmp_path / "models" / KEY / "b").stat().st_ino
    preadv, opened = os.preadv, os.open

    def refuse() -> None:
        raise OSError(code, os.strerror(code))

    def read(fd: int, buffers: Sequence[Any], offset: int) -> int:
        if os.fstat(fd).st_ino == bad:
            refuse()
        return preadv(fd, buffers, offset)

    def open_(path: str, flags: int, *more: Any, **named: Any) -> int:
        if path == "b":
            refuse()
        return opened(path, flags, *more, **named)

    if code == errno.EIO:
        monkeypatch.setattr(os, "preadv", read)
    else:
        monkeypatch.setattr(os, "open", open_)
    await scene.run_until_ended()
    assert scene.found.get_nowait() == (KEY, ("b",))
    assert scene.found.empty()
    assert scene.store.inspect(KEY) == ("b",)


async def test_what_was_read_recently_is_not_read_again(scene: Scene) -> None:
    publish(scene.store, {"a": b"1" * 9000})
    await scene.run_until_ended()
    before = scene.bytes
    running = asyncio.create_task(scene.scrub().run())
    await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert scene.bytes == before > 0


async def test_nothing_is_read_while_copies_are_fetched_and_stopping_is_quick(scene: Scene) -> None:
    publish(scene.store, {"a": b"1" * 9000})
    scene.busy = True
    running = asyncio.create_task(scene.scrub().run())
    await asyncio.sleep(0.3)
    assert scene.bytes == 0
    running.cancel()
    async with asyncio.timeout(3):
        await asyncio.gather(running, return_exceptions=True)
    scene.busy = False
    await scene.run_until_ended()
    assert scene.bytes == 9000


async def test_a_reading_goes_on_where_a_restart_interrupted_it(
    scene: Scene, tmp_path: Path
) -> None:
    tree = publish(scene.store, {"a": b"1" * 9000, "b": b"2" * 7000})
    save(tmp_path / ".localmodel", {KEY: Reading(tree.published_at, after="a")})
    await scene.run_until_ended()
    assert scene.bytes == 7000


async def test_a_model_whose_manifest_has_rotted_keeps_no_other_from_being_read(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrub, "_REST_SECONDS", 0.05)
    publish(scene.store, {"a": b"1" * 9000})
    other = publish(scene.store, {"b": b"2" * 7000}, uri="hf://o/m")
    # Begun, so it is its turn.
    save(tmp_path / ".localmodel", {KEY: Reading(scene.store.trees()[KEY].published_at, after="A")})
    rot(tmp_path / ".localmodel" / "manifests" / f"{KEY}.json")
    await scene.run_until_ended(other.storage_key)
    assert scene.bytes == 7000


async def test_a_disk_in_trouble_is_waited_for(scene: Scene, tmp_path: Path) -> None:
    publish(scene.store, {"a": b"1" * 9000})
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    running = asyncio.create_task(scene.scrub().run())
    await asyncio.sleep(0.3)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert scene.found.empty()
    (tmp_path / "elsewhere").rename(tmp_path / "models")
