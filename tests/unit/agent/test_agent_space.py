import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.blocking import Blocking
from agent.copying.progress import Rate
from agent.copying.space import LacksSpace, Ledger, written
from agent.errors import Stalled
from agent.storage.tree import Usage
from shared.domain.reasons import Reason

MIB = 1 << 20


@dataclass
class SmallDisk:
    """A disk of 100 MiB of which 5 % stay free; retired trees hold some of it until they are given up."""

    free: int = 50 * MIB
    retired: int = 0
    inodes: int | None = 1000
    ledger: Ledger = field(init=False)
    discarded: list[str] = field(default_factory=list)
    looks: int = 0

    def usage(self) -> Usage:
        self.looks += 1
        return Usage(100 * MIB, self.free, 100 * MIB - self.free, self.retired, self.inodes)

    def reclaim(self) -> None:
        self.free += self.retired
        self.retired = 0

    async def fill(self) -> None:
        """A MiB between two looks at the disk."""
        while self.free:
            self.free -= MIB
            looks = self.looks
            while self.looks == looks:  # noqa: ASYNC110  # counted in threads
                await asyncio.sleep(0.001)


@pytest.fixture
async def disk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SmallDisk]:
    monkeypatch.setattr("agent.copying.space._LOOK_SECONDS", 0.02)
    small = SmallDisk()
    blocking = Blocking(2)
    small.ledger = Ledger(
        usage=small.usage,
        reclaim=small.reclaim,
        discard=small.discarded.append,
        holders=lambda: {"s3://models/old": 40 * MIB},
        min_free_percent=5,
        blocking=blocking,
    )
    yield small
    blocking.close()


async def test_copies_in_flight_never_get_more_than_there_is(
    disk: SmallDisk, tmp_path: Path
) -> None:
    async with disk.ledger.admit("a", 30 * MIB, tmp_path / "a"):
        with pytest.raises(LacksSpace, match=r"30\.0 MiB are promised to copies in flight"):
            async with disk.ledger.admit("b", 16 * MIB, tmp_path / "b"):
                pass
        async with disk.ledger.admit("c", 15 * MIB, tmp_path / "c"):
            assert disk.ledger.reserved() == 45 * MIB
    assert disk.ledger.reserved() == 0


async def test_what_is_on_disk_already_needs_no_space_again(
    disk: SmallDisk, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "part").write_bytes(b"x" * (20 * MIB))
    assert written(folder) == 20 * MIB
    async with disk.ledger.admit("a", 60 * MIB, folder):
        assert disk.ledger.reserved() == 40 * MIB
        (folder / "more").write_bytes(b"x" * (10 * MIB))
        assert disk.ledger.reserved() == 30 * MIB


async def test_links_to_published_files_are_no_new_bytes(disk: SmallDisk, tmp_path: Path) -> None:
    (tmp_path / "published").write_bytes(b"x" * MIB)
    (tmp_path / "staged").mkdir()
    (tmp_path / "staged" / "file").hardlink_to(tmp_path / "published")
    assert written(tmp_path / "staged") == 0


async def test_replaced_trees_are_given_up_before_a_copy_is_refused(
    disk: SmallDisk, tmp_path: Path
) -> None:
    disk.free, disk.retired = 10 * MIB, 20 * MIB
    async with disk.ledger.admit("a", 25 * MIB, tmp_path / "a"):
        assert disk.retired == 0


async def test_a_refused_copy_fits_as_soon_as_space_is_there(
    disk: SmallDisk, tmp_path: Path
) -> None:
    with pytest.raises(LacksSpace) as refused:
        async with disk.ledger.admit("a", 60 * MIB, tmp_path / "a"):
            pass
    assert not disk.ledger.fits(refused.value.need)
    disk.free = 80 * MIB
    assert disk.ledger.fits(refused.value.need)


async def test_an_archive_gets_what_is_left_for_its_members(
    disk: SmallDisk, tmp_path: Path
) -> None:
    async with (
        disk.ledger.admit("other", 15 * MIB, tmp_path / "other"),
        disk.ledger.admit("zip", 10 * MIB, tmp_path / "zip"),
    ):
        disk.free -= 10 * MIB
        assert await disk.ledger.widen("zip", 5 * MIB) == 5 * MIB
        assert await disk.ledger.widen("zip", 100 * MIB) < 100 * MIB


async def test_a_file_of_unknown_size_is_stopped_at_what_stays_free(
    disk: SmallDisk, tmp_path: Path
) -> None:
    async with disk.ledger.admit("a", 0, tmp_path, open_ended=True):
        with pytest.raises(
            LacksSpace, match=r"5\.0 MiB stay free; held by s3://models/old 40\.0 MiB$"
        ):
            await disk.ledger.watched("a", disk.fill())
    stopped_at = disk.free
    await asyncio.sleep(0.1)
    assert disk.free == stopped_at
    assert 3 * MIB <= disk.free <= 5 * MIB


async def test_a_file_of_unknown_size_leaves_others_what_they_were_promised(
    disk: SmallDisk, tmp_path: Path
) -> None:
    async with (
        disk.ledger.admit("unknown", 0, tmp_path / "u", open_ended=True),
        disk.ledger.admit("known", 20 * MIB, tmp_path / "k"),
    ):
        with pytest.raises(LacksSpace, match=r"20\.0 MiB are promised to copies in flight"):
            await disk.ledger.watched("unknown", disk.fill())
        assert 23 * MIB <= disk.free <= 25 * MIB


async def test_what_nobody_was_promised_is_written_down_to_what_stays_free(
    disk: SmallDisk, tmp_path: Path
) -> None:
    room, free = disk.ledger.room(tmp_path), shutil.disk_usage(tmp_path).free
    room(1)
    with pytest.raises(Stalled, match="the disk is full but for what models leave free"):
        room(free)
    disk.ledger._percent = 100
    with pytest.raises(Stalled):
        room(1)
    # Bytes in place of others.
    room(0)


async def test_when_others_fill_the_disk_the_copies_stop_one_after_the_other_last_come_first(
    disk: SmallDisk, tmp_path: Path
) -> None:
    async def last() -> LacksSpace:
        with pytest.raises(LacksSpace) as stopped:
            async with disk.ledger.admit("last", 20 * MIB, tmp_path / "l"):
                await disk.ledger.watched("last", asyncio.Event().wait())
        return stopped.value

    async with disk.ledger.admit("first", 20 * MIB, tmp_path / "f"):
        first = asyncio.create_task(disk.ledger.watched("first", asyncio.Event().wait()))
        ending = asyncio.create_task(last())
        await asyncio.sleep(0.1)
        disk.free = 24 * MIB
        assert (await ending).need == 20 * MIB
        await asyncio.sleep(0.2)
        assert not first.done()
        disk.free = 4 * MIB
        with pytest.raises(LacksSpace, match="the disk is full but for what models leave free"):
            await first


async def test_a_copy_that_has_all_its_bytes_is_not_stopped(
    disk: SmallDisk, tmp_path: Path
) -> None:
    (tmp_path / "all").write_bytes(b"x" * MIB)
    async with disk.ledger.admit("a", MIB, tmp_path):
        disk.free = 0
        assert await disk.ledger.watched("a", asyncio.sleep(0.2, "verified")) == "verified"


async def stop_for_space(disk: SmallDisk, key: str, folder: Path) -> None:
    """A copy of unknown size has written what it could, which is all there is, and stops."""
    disk.free = 5 * MIB
    with pytest.raises(LacksSpace):
        async with disk.ledger.admit(key, 0, folder, open_ended=True):
            await disk.ledger.watched(key, asyncio.Event().wait())


async def test_what_is_staged_of_unknown_size_is_given_up_for_a_copy_that_fits_then(
    disk: SmallDisk, tmp_path: Path
) -> None:
    (tmp_path / "endless").write_bytes(b"x" * (10 * MIB))
    await stop_for_space(disk, "unknown", tmp_path)

    def discard(key: str) -> None:
        disk.discarded.append(key)
        disk.free += 10 * MIB

    disk.ledger._discard = discard
    with pytest.raises(LacksSpace):
        async with disk.ledger.admit("large", 11 * MIB, tmp_path / "l"):
            pass
    assert disk.discarded == []
    async with disk.ledger.admit("small", 9 * MIB, tmp_path / "s"):
        assert disk.discarded == ["unknown"]


async def test_what_is_staged_stays_once_its_copy_is_tried_again(
    disk: SmallDisk, tmp_path: Path
) -> None:
    (tmp_path / "endless").write_bytes(b"x" * (10 * MIB))
    await stop_for_space(disk, "unknown", tmp_path)
    await disk.ledger.keep("unknown")
    with pytest.raises(LacksSpace):
        async with disk.ledger.admit("small", 9 * MIB, tmp_path / "s"):
            pass
    assert disk.discarded == []


async def test_replaced_trees_stay_when_giving_them_up_would_not_help(
    disk: SmallDisk, tmp_path: Path
) -> None:
    disk.free, disk.retired = 10 * MIB, 20 * MIB
    with pytest.raises(LacksSpace):
        async with disk.ledger.admit("a", 26 * MIB, tmp_path / "a"):
            pass
    assert disk.retired == 20 * MIB


async def test_work_that_is_watched_ends_with_its_result_or_its_error(
    disk: SmallDisk, tmp_path: Path
) -> None:
    async def give() -> int:
        return 7

    async def fail() -> int:
        raise Stalled(Reason.ACCESS_DENIED, "no")

    async with disk.ledger.admit("a", 0, tmp_path):
        assert await disk.ledger.watched("a", give()) == 7
        with pytest.raises(Stalled, match="no"):
            await disk.ledger.watched("a", fail())


async def test_a_disk_that_ran_full_is_tried_again_as_soon_as_more_is_free(disk: SmallDisk) -> None:
    disk.free = 0
    error = await disk.ledger.ran_out(Stalled(Reason.INSUFFICIENT_STORAGE, "weights: disk full"))
    assert isinstance(error, LacksSpace)
    assert error.message.startswith("weights: disk full; 0 B of 100 MiB are free")
    assert not disk.ledger.fits(error.need)
    disk.free = 6 * MIB
    assert disk.ledger.fits(error.need)


async def test_a_quota_that_is_used_up_is_tried_again_when_more_is_free_than_then(
    disk: SmallDisk,
) -> None:
    error = await disk.ledger.ran_out(Stalled(Reason.INSUFFICIENT_STORAGE, "the quota is used up"))
    assert isinstance(error, LacksSpace)
    assert not disk.ledger.fits(error.need)
    disk.free += MIB
    assert disk.ledger.fits(error.need)


async def test_a_disk_without_inodes_says_so_and_waits_for_somebody(disk: SmallDisk) -> None:
    disk.inodes = 0
    error = await disk.ledger.ran_out(Stalled(Reason.INSUFFICIENT_STORAGE, "weights: disk full"))
    assert not isinstance(error, LacksSpace)
    assert error.message == "weights: disk full; no inode is free"
    disk.inodes = None
    error = await disk.ledger.ran_out(Stalled(Reason.INSUFFICIENT_STORAGE, "weights: disk full"))
    assert isinstance(error, LacksSpace)


async def test_a_cancelled_wait_ends_only_when_its_thread_has() -> None:
    blocking = Blocking(1)
    entered, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    ended: list[bool] = []

    def work() -> None:
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(leave.wait(), loop).result()
        ended.append(True)

    task = asyncio.create_task(blocking(work))
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
    blocking.close()


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.per_second() is None
    for second in range(100):
        rate.add(float(second), 1000 * second if second < 50 else 50_000 + 10 * second)
    assert rate.per_second() == 10
