"""Reads published files again in the background, slowly, so that rot is found before a pod finds it.

How far it came is kept in `.localmodel/scrub`, durable, so that restarts do not begin anew for ever.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import structlog

from agent.blocking import Blocking
from agent.errors import FetchError
from agent.planning.scrub import Reading, bytes_per_second, current, next_files, next_tree
from agent.storage.disk import Disk, open_folder, write_durably
from agent.storage.errors import translated
from agent.storage.layout import PRIVATE
from agent.storage.store import Store
from agent.storage.tree import Tree
from agent.transfer.budget import Throttle

log = structlog.get_logger(__name__)

NOTES = "scrub"
# Between looks for a tree that is due, and after trouble with the disk.
_REST_SECONDS = 60.0
# A tree that cannot be read, its manifest has rotted for example, does not keep the others waiting.
_PUT_OFF = timedelta(hours=1)
# Between looks whether the copies that are being fetched leave room.
_BUSY_SECONDS = 1.0


class Scrub:
    """One thread of its own. `busy`: copies are being fetched, so nothing is read; asked from that thread.

    found: called in the loop with the damaged paths of a tree. read: with the bytes that were read.
    """

    def __init__(
        self,
        store: Store,
        root: Path,
        *,
        period: timedelta,
        busy: Callable[[], bool],
        found: Callable[[str, tuple[str, ...]], None],
        read: Callable[[int], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._folder = root / PRIVATE
        self._period = period
        self._busy = busy
        self._found = found
        self._read = read
        self._clock = clock
        self._throttle = Throttle(None)
        self._readings: dict[str, Reading] = {}
        self._put_off: dict[str, datetime] = {}
        self._reading: str | None = None

    async def run(self) -> None:
        """For ever. A period of zero reads nothing."""
        blocking = Blocking(threads=1)
        try:
            self._readings = await blocking(load, self._folder)
            while True:
                try:
                    went_on = bool(self._period) and await self._step(blocking)
                except FetchError as error:
                    log.warning("published files cannot be read again", error=error.message)
                    went_on = False
                if not went_on:
                    await asyncio.sleep(_REST_SECONDS)
        finally:
            blocking.close()

    def describe(self) -> dict[str, Any]:
        """For people: what is read now, and when each tree was read to its end."""
        return {
            "reading": self._reading,
            "ended": {key: reading.ended for key, reading in self._readings.items()},
        }

    async def _step(self, blocking: Blocking) -> bool:
        """Reads the next few files; False when nothing is due."""
        now = self._clock()
        self._put_off = {key: until for key, until in self._put_off.items() if now < until}
        trees = self._store.trees()
        published = {key: tree.published_at for key, tree in trees.items()}
        sizes = {key: tree.size for key, tree in trees.items()}
        due = {key: moment for key, moment in published.items() if key not in self._put_off}
        key = next_tree(due, self._readings, sizes=sizes, now=now, period=self._period)
        if key is None:
            return False
        self._throttle.set_rate(bytes_per_second(sum(sizes.values()), self._period))
        try:
            note = await self._go_on(blocking, trees[key])
        except FetchError:
            self._put_off[key] = now + _PUT_OFF
            raise
        known = {name: one for name, one in self._readings.items() if name in published}
        self._readings = {**known, key: note}
        await blocking(save, self._folder, self._readings)
        return True

    async def _go_on(self, blocking: Blocking, tree: Tree) -> Reading:
        reading = current(self._readings, tree.storage_key, tree.published_at)
        paths = await blocking(self._next_files, tree, reading.after)
        if not paths:
            return Reading(tree.published_at, ended=self._clock())
        await self._read_again(blocking, tree.storage_key, paths)
        return Reading(tree.published_at, paths[-1], reading.ended)

    async def _read_again(self, blocking: Blocking, key: str, paths: tuple[str, ...]) -> None:
        self._reading = key
        try:
            damaged = await blocking.cancellable(lambda stop: self._verify(key, paths, stop))
        finally:
            self._reading = None
        if damaged:
            self._found(key, damaged)

    def _next_files(self, tree: Tree, after: str) -> tuple[str, ...]:
        return next_files(((file.path, file.size) for file in tree.files), after)

    def _verify(self, key: str, paths: tuple[str, ...], stop: threading.Event) -> tuple[str, ...]:
        def pace(count: int) -> None:
            self._throttle.spend(count, stop)
            while self._busy() and not stop.wait(_BUSY_SECONDS):
                pass
            if not stop.is_set():
                self._read(count)

        return self._store.verify(key, cancelled=stop, paths=paths, pace=pace)


def load(folder: Path) -> dict[str, Reading]:
    """Blocking. What cannot be read is as if nothing had been read again yet."""
    try:
        notes = orjson.loads((folder / NOTES).read_bytes())
        return {
            key: Reading(
                datetime.fromisoformat(note["publishedAt"]),
                note["after"],
                datetime.fromisoformat(note["ended"]) if note["ended"] else None,
            )
            for key, note in notes.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def save(folder: Path, readings: Mapping[str, Reading]) -> None:
    """Blocking; durable on return. Raises FetchError."""
    notes = {
        key: {
            "publishedAt": reading.published_at.isoformat(),
            "after": reading.after,
            "ended": reading.ended.isoformat() if reading.ended else None,
        }
        for key, reading in readings.items()
    }
    with translated("noting what was read again"):
        at = open_folder(None, folder)
        try:
            write_durably(Disk(), at, NOTES, [orjson.dumps(notes)])
        finally:
            os.close(at)
