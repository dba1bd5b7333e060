"""From the board to the browsers that watch: a snapshot each, then what changes, all at one pace."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import orjson
import structlog

from controller.ui.board import Board
from controller.ui.sight import Sight

_SUBSCRIBERS: Final = (
    32  # some walls and some people; each costs a snapshot, half a MB at 1,000 nodes
)
_BACKLOG: Final = 8  # messages that a slow browser may be behind; then a new snapshot is cheaper
_PAUSE_SECONDS: Final = 1.0  # between two looks: as often as a person can follow
_SLICE_SECONDS: Final = 0.005  # of work at a time, then as long for everybody else
_SHARE: Final = 0.05  # of one core that looking should take while somebody watches
_LONGEST_PAUSE_SECONDS: Final = 5.0  # after which a person takes the page for dead

_RETRY: Final = b"retry: 1000\n"  # ms until a browser that was cut comes back

log = structlog.get_logger(__name__)


class Subscriber:
    """One browser's queue. Whoever falls behind is cut, comes back and begins with a new snapshot."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue(_BACKLOG)
        self._cut = False
        self.begun = False
        """Whether it has its snapshot, without which changes say nothing."""

    def tell(self, message: bytes) -> bool:
        """False when it has not kept up; then nothing more will come."""
        if self._cut or self._messages.full():
            self.cut()
            return False
        self._messages.put_nowait(message)
        return True

    def cut(self) -> None:
        self._cut = True
        while not self._messages.empty():
            self._messages.get_nowait()
        self._messages.put_nowait(None)

    async def next(self) -> bytes | None:
        """None: it is over."""
        return await self._messages.get()


class Feed:
    """Looks only while somebody watches. `head`: facts about this replica, small and JSON-ready."""

    def __init__(self, sight: Sight, head: Callable[[], dict[str, Any]]) -> None:
        self._sight = sight
        self._head = head
        self._board = Board()
        self._told_head: dict[str, Any] = {}
        self._subscribers: set[Subscriber] = set()
        self._watched = asyncio.Event()
        self._looked = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; then every browser is cut. A bug in the page cuts them too, and is no concern of anybody else."""
        try:
            while True:
                try:
                    pause = await self._round()
                except Exception:
                    log.exception("page failed")
                    self._cut()
                    self._forget()
                    pause = _LONGEST_PAUSE_SECONDS
                await asyncio.sleep(pause)
        finally:
            self._cut()

    async def _round(self) -> float:
        """Seconds until the next."""
        if not self._subscribers:
            self._forget()
            await self._watched.wait()
        spent = await self._look(asyncio.get_running_loop().time)
        if not self._looked.is_set():
            spent = 0.0  # of everything, once
            self._looked.set()
        self._tell()
        return max(_PAUSE_SECONDS, min(spent / _SHARE, _LONGEST_PAUSE_SECONDS))

    async def subscribe(self) -> Subscriber | None:
        """Its first message is a snapshot. None: too many watch already. Who subscribes must `leave`."""
        if len(self._subscribers) >= _SUBSCRIBERS:
            log.warning("page refused: too many watch", watching=len(self._subscribers))
            return None
        subscriber = Subscriber()
        self._subscribers.add(subscriber)
        self._watched.set()
        try:
            await self._looked.wait()
        except asyncio.CancelledError:
            self.leave(subscriber)
            raise
        snapshot = {**self._board.snapshot(), "head": self._head()}
        subscriber.tell(_RETRY + _message("snapshot", snapshot))
        subscriber.begun = True
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        self._subscribers.discard(subscriber)
        if not self._subscribers:
            self._watched.clear()

    async def _look(self, clock: Callable[[], float]) -> float:
        """Seconds of work that it took."""
        spent, began = 0.0, clock()
        world = self._sight.now()
        for name, keys in self._board.stale(world, whole=not self._sight.leading).items():
            self._sight.plan(name)
            self._board.look_at(world, name, keys)
            worked = clock() - began
            if worked > _SLICE_SECONDS:
                spent += worked
                await asyncio.sleep(worked)
                began, world = clock(), self._sight.now()
        return spent + clock() - began

    def _tell(self) -> None:
        changes, head = self._board.changes() or {}, self._head()
        if head != self._told_head:
            changes["head"] = self._told_head = head
        listening = [subscriber for subscriber in self._subscribers if subscriber.begun]
        if not changes or not listening:
            return
        message = _message("changes", changes)
        for subscriber in listening:
            if not subscriber.tell(message):
                self.leave(subscriber)

    def _cut(self) -> None:
        """Those that have begun come back, and begin anew; the others still wait for their first look."""
        for subscriber in [s for s in self._subscribers if s.begun]:
            subscriber.cut()
            self.leave(subscriber)

    def _forget(self) -> None:
        self._board = Board()
        self._sight.forget()
        self._looked.clear()


def _message(event: str, data: dict[str, Any]) -> bytes:
    return b"event: " + event.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
