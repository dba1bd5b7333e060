"""Many small files at once: one thread keeps several connections busy, and no request waits for another's answer.

Only the plain course of things happens here: answers of 200 with the listed size, and redirects. Whatever else comes leaves
its file to `receive`, which knows what it means.
"""

import select
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from agent.errors import FetchError, Retryable
from agent.manifest import Algorithm
from agent.policy import Endpoint
from agent.transfer import answers, ask
from agent.transfer.batches import Batches
from agent.transfer.connection import Connection
from agent.transfer.exchange import Exchange
from agent.transfer.files import Folders, disk_errors, feed
from agent.transfer.journal import Claim
from agent.transfer.line import Head, Line, endpoint_of, is_plain
from agent.transfer.work import PartWork
from agent.transfer.workshop import Workshop
from shared.domain.reasons import Reason

# So many files that go wrong here mean that the others will too.
_MOST_FAILURES: Final = 8
# Between looks at the stop flag and at silent connections.
_LOOK_SECONDS: Final = 0.5
# Answers that are taken before more is asked for: their server is woken once for all of them, and on a long link the
# others' requests are on their way meanwhile.
_AT_A_TIME: Final = 32


class Crowd:
    """The files of the exchange's units over up to `width` connections: all of these are busy while units come in time.

    welcome: whether the source may be asked for more now. leaves: set when others are to have the places.
    """

    def __init__(
        self,
        shop: Workshop,
        exchange: Exchange,
        *,
        width: int,
        welcome: Callable[[], bool],
    ) -> None:
        self._shop = shop
        self._todo: dict[Endpoint, deque[PartWork]] = {}
        self._width = width
        self._welcome = welcome
        self.leaves = False
        self._exchange = exchange
        self._batches = Batches(shop.journal, exchange.over)
        self._lines: dict[int, Line] = {}
        self._free: list[Line] = []
        self._failures = 0
        self._again = width
        self._hops: Counter[PartWork] = Counter()
        self._throttled: Retryable | None = None
        self._folders = Folders(shop.root)

    def run(self) -> None:
        """Finishes what it can, until no more arrives; the rest is left as it was.

        Raises `Stopped`, and FetchError for the disk's faults and for a source that asks to slow down.
        """
        self._epoll = select.epoll()
        bell = self._exchange.listen()
        self._epoll.register(bell, select.EPOLLIN)
        try:
            while (self._is_busy or self._expects_more) and not self.leaves:
                for fd, _ in self._epoll.poll(_LOOK_SECONDS, _AT_A_TIME):
                    self._shop.check()
                    if fd == bell:
                        self._take()
                    elif fd in self._lines:
                        self._hear(self._lines[fd])
                self._shop.check()
                self._go_on()
                self._cut_silent()
        finally:
            self._end()
        if self._throttled is not None:
            raise self._throttled

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._todo.values()))

    @property
    def _is_busy(self) -> bool:
        return self._exchange.opening > 0 or any(line.part for line in self._lines.values())

    @property
    def _expects_more(self) -> bool:
        return self._goes_on and self._exchange.goes_on

    @property
    def _goes_on(self) -> bool:
        """Whether more files are asked for."""
        return self._failures < _MOST_FAILURES and self._welcome()

    def _open(self) -> None:
        """One more connection where there is work: a kept-alive one at once, a new one when another thread has opened it."""
        waiting = max(self._todo.values(), key=len, default=None)
        if not waiting or not self._goes_on:
            return
        route = ask.route_of(waiting[0])
        via = self._shop.pool.take(route.place.url, route.signed.tls, owner=self._shop)
        if via.reusable:
            self._begin(via)
        else:
            self._exchange.open(via)

    def _take(self) -> None:
        units, opened = self._exchange.take()
        for unit in units:
            plain = [part for part in unit.parts if is_plain(part)]
            for part in plain:
                self._todo.setdefault(endpoint_of(part), deque()).append(part)
            self._batches.add(unit, plain)
        for via in opened:
            if via.reusable:
                self._begin(via)
            else:
                # Another attempt would take as long.
                self._failures += 1
                self._shop.pool.discard(via)
        if units:
            self._free += [line for line in self._lines.values() if line.part is None]
            room = self._width - len(self._lines) - self._exchange.opening
            for _ in range(min(room, self._waiting)):
                self._open()

    def _begin(self, via: Connection) -> None:
        line = Line(via)
        self._lines[line.sock.fileno()] = line
        self._epoll.register(line.sock, select.EPOLLIN)
        self._next(line)

    def _next(self, line: Line) -> None:
        """The line's next file; a line that has none any more makes room for one to where there are some."""
        line.part = None
        mine = self._todo.get(line.via.endpoint)
        if not self._goes_on:
            return
        if mine:
            line.part = mine.popleft()
            self._send(line, line.part)
        elif any(self._todo.values()):
            self._drop(line, keep=True)
            self._open()

    def _send(self, line: Line, part: PartWork) -> None:
        try:
            line.send(part, ask.route_of(part))
        except (OSError, ValueError, FetchError):
            self._broken(line)

    def _hear(self, line: Line) -> None:
        part = line.part
        try:
            if part is None:
                raise OSError("closed, or an answer that nobody asked for")
            body = line.receive(ask.route_of(part).place.url, part.of.size or 0)
        except (OSError, ValueError):
            self._broken(line)
            return
        if body is None or line.head is None:
            return
        keeps_open = line.head.keeps_open
        try:
            if self._judge(line, line.head, part, body):
                return
        except (ValueError, FetchError):
            # `receive` will meet the same, and says what it means.
            self._left_out(part)
        if keeps_open:
            self._free.append(line)
        else:
            self._drop(line)
            self._open()

    def _go_on(self) -> None:
        """After some answers, not after each."""
        free, self._free = self._free, []
        for line in free:
            self._next(line)
        if self._waiting <= self._width:
            self._exchange.hunger()

    def _judge(self, line: Line, head: Head, part: PartWork, body: memoryview) -> bool:
        """Keep the file, or ask where it has gone: True when this line is at that already.

        Raises FetchError, ValueError when it is not the file.
        """
        route = ask.route_of(part)
        ask.check_expected(route, route.place, head, part)
        if head.status in ask.REDIRECTS:
            route.place = ask.follow(route, route.place, head, part)
            return self._follow(line, head, part)
        if head.status != 200:
            self._refused(part, answers.failure(head.status, head.headers, what=part.of.file.path))
            return False
        answers.check_encoding(head.headers, what=part.of.file.path)
        ask.check_confirmed(route, part)
        if len(body) != part.of.size:
            raise ValueError("another size")
        ask.learn(part, head)
        self._keep(part, body)
        return False

    def _follow(self, line: Line, head: Head, part: PartWork) -> bool:
        self._hops[part] += 1
        if self._hops[part] > ask.MAX_REDIRECTS:
            raise ValueError("too many redirects")
        endpoint = endpoint_of(part)
        if endpoint == line.via.endpoint and head.keeps_open:
            self._send(line, part)
            return True
        self._todo.setdefault(endpoint, deque()).append(part)
        return False

    def _refused(self, part: PartWork, why: FetchError | answers.Refused) -> None:
        if isinstance(why, answers.Refused):
            self._batches.unit_of(part).refused.add(part.of)
            part.of.route = None
        elif isinstance(why, Retryable) and why.reason is Reason.SOURCE_THROTTLED:
            # Who takes the file on has to wait first.
            self._throttled = why
            self._failures = _MOST_FAILURES
            return
        self._left_out(part)

    def _left_out(self, part: PartWork) -> None:
        self._failures += 1
        self._batches.over(part)

    def _keep(self, part: PartWork, body: memoryview) -> None:
        path = part.of.file.path
        with disk_errors(path):
            self._folders.write(path, body)
        feed(part.hashers, body)
        part.at += len(body)
        crc32c = part.crcs[Algorithm.CRC32C].value
        claim = Claim(part.claim(), crc32c)
        part.finish()
        self._shop.progress.received(len(body))
        before = time.monotonic()
        self._shop.throttle.spend(len(body), self._shop.stop)
        waited = time.monotonic() - before
        if waited > _LOOK_SECONDS:
            for line in self._lines.values():
                line.pause(waited)
        self._batches.over(part, (part.of.id, claim, part.of.learned))

    def _broken(self, line: Line) -> None:
        """Another connection takes its place. A file of which nothing came is asked for again there, a few times."""
        part = line.part
        if part is not None and line.silent and self._again > 0:
            self._again -= 1
            self._todo.setdefault(endpoint_of(part), deque()).appendleft(part)
        elif part is not None:
            self._left_out(part)
        self._drop(line)
        self._open()

    def _drop(self, line: Line, *, keep: bool = False) -> None:
        if self._lines.pop(line.sock.fileno(), None) is None:
            return
        self._epoll.unregister(line.sock)
        if keep:
            line.via.blocking_again()
            self._shop.pool.give_back(line.via)
        else:
            self._shop.pool.discard(line.via)

    def _cut_silent(self) -> None:
        now = time.monotonic()
        for line in [line for line in self._lines.values() if line.part and line.is_left(now)]:
            self._broken(line)

    def _end(self) -> None:
        self._exchange.leave()
        for line in list(self._lines.values()):
            self._drop(line, keep=line.part is None)
        self._epoll.close()
        self._folders.close()
        self._batches.close()
