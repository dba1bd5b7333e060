"""What a thread does: ask for a range, and write what comes to its place."""

import http.client
import mmap
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from agent.errors import Retryable, SourceChanged, Stalled
from agent.manifest import Algorithm
from agent.origin import LocalPath, SignedRequest
from agent.transfer import answers
from agent.transfer.budget import Throttle
from agent.transfer.connection import Answer, Pool, request, unreachable
from agent.transfer.files import (
    clone,
    disk_errors,
    feed,
    opened,
    reserve,
    start_writeback,
    unchanged,
)
from agent.transfer.journal import Claim, Journal
from agent.transfer.pages import Writer
from agent.transfer.parts import SMALL_FILE
from agent.transfer.progress import Progress
from agent.transfer.work import PartWork, Place, Route, Unit
from shared.domain.reasons import Reason

# Large writes are what makes a disk fast; a thread holds one such buffer.
BUFFER_BYTES: Final = 2 << 20
# A range is claimed in steps of this, so that a crash loses little of the parts in flight.
CLAIM_BYTES: Final = 8 << 20
_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_local = threading.local()


class Stopped(Exception):
    """The fetch is over; the thread writes nothing more."""


@dataclass(frozen=True, slots=True, eq=False)
class Workshop:
    """What the threads of one fetch share. root: open folder in which the files appear. direct: past the page cache."""

    root: int
    pool: Pool
    throttle: Throttle
    journal: Journal
    progress: Progress
    direct: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def close_after(self, threads: Sequence[Future[Any]]) -> None:
        """Close folder and journal once these threads are done: a descriptor that is closed earlier may become another file's."""
        left = len(threads)
        lock = threading.Lock()

        def count(_: Future[Any]) -> None:
            nonlocal left
            with lock:
                left -= 1
                last = left == 0
            if last:
                self._close()

        if not threads:
            self._close()
        for thread in threads:
            thread.add_done_callback(count)

    def _close(self) -> None:
        os.close(self.root)
        self.journal.close()


def receive(unit: Unit, shop: Workshop) -> None:
    """Bring every part of the unit to its end, in order.

    Raises FetchError, `Refused` or `RangesIgnored` at the first that fails; the unit's parts say how far it came, and a
    second call goes on from there.
    """
    for part in unit.parts:
        if part.finished or part.void:
            continue
        shop.check()
        what = part.of.file.path
        with disk_errors(what), opened(shop.root, what) as fd:
            if not part.of.reserved and part.of.size is not None and part.of.size > SMALL_FILE:
                reserve(fd, part.of.size)
                part.of.reserved = True
            writer = Writer(fd, direct=shop.direct and _may_be_direct(part))
            if isinstance(part.route, LocalPath):
                _copy(part, part.route.path, fd, writer, shop)
            elif part.of.size == 0:
                # Nothing to ask for.
                pass
            else:
                _download(part, fd, writer, shop)
            if part.at > part.claimed or part.of.size in (0, None):
                _claim(part, fd, shop)
            part.finish()


def _may_be_direct(part: PartWork) -> bool:
    """A digest that needs a file's bytes in order, while they come in several parts, is computed from the page cache."""
    size = part.of.size
    large = size is None or size > SMALL_FILE
    return large and (part.of.sequential is None or part.is_whole_file)


def _claim(part: PartWork, fd: int, shop: Workshop) -> None:
    shop.check()
    crc32c = part.crcs[Algorithm.CRC32C].value
    span = part.claim()
    if span.size:
        if span.size > SMALL_FILE and not (shop.direct and _may_be_direct(part)):
            start_writeback(fd, span.start, span.size)
        shop.journal.add(part.of.id, Claim(span, crc32c), stated=part.of.learned)


def _download(part: PartWork, fd: int, writer: Writer, shop: Workshop) -> None:
    with _ask(part, shop) as answer:
        file = part.of.file
        answers.check_encoding(answer.headers, what=file.path)
        if answer.status == 206:
            answers.check_partial(answer.headers, start=part.at, size=file.size, what=file.path)
        else:
            answers.check_whole(answer.headers, size=file.size, what=file.path)
            if not part.is_whole_file and part.end is not None:
                raise answers.RangesIgnored
            if part.at > part.start:
                shop.progress.found(-part.rewind())
            if part.is_whole_file:
                _learn(part, answer)
        _receive_body(part, answer, fd, writer, shop)


def _learn(part: PartWork, answer: Answer) -> None:
    """The digests that this answer states about the whole file, when nobody stated any before."""
    route = _route(part)
    if part.of.stated is None and route.signed.states and answer.url == route.signed.url:
        part.of.learn(route.signed.states(answer.headers))
        part.rewind()


def _receive_body(part: PartWork, answer: Answer, fd: int, writer: Writer, shop: Workshop) -> None:
    buffer = _buffer()
    while part.end is None or part.at < part.end:
        # Up to the next multiple of the buffer, after a cut in the middle: what follows is aligned for direct writes.
        room = len(buffer) - part.at % len(buffer)
        room = room if part.end is None else min(room, part.end - part.at)
        try:
            count = answer.read_into(buffer[:room])
        except (http.client.HTTPException, OSError) as exc:
            shop.check()
            raise unreachable(answer.url, exc) from exc
        shop.check()
        if count == 0:
            if part.end is None and not answer.missing:
                return
            raise Retryable(
                Reason.SOURCE_UNREACHABLE, f"{part.of.file.path}: the connection was cut"
            )
        data = buffer[:count]
        writer.write(data, part.at)
        feed(part.hashers, data)
        part.at += count
        if part.at - part.claimed >= CLAIM_BYTES:
            _claim(part, fd, shop)
        shop.progress.received(count)
        shop.throttle.spend(count, shop.stop)
    if answer.missing:
        # More than was asked for: a range is never longer, so this was the whole of a longer file.
        raise SourceChanged(f"{part.of.file.path} is longer than when it was listed")
    # Reads the end of a chunked body, so that the connection can be used again.
    if not answer.ended:
        answer.read_into(buffer[:1])


def _ask(part: PartWork, shop: Workshop) -> Answer:
    """The answer that carries the bytes, redirects followed; the route remembers where they led."""
    for _ in range(_MAX_REDIRECTS + 1):
        route = _route(part)
        place = route.place
        headers = {"Accept-Encoding": "identity", "User-Agent": "localmodel-agent", **place.headers}
        whole = part.is_whole_file and part.at == part.start
        if part.end is not None and not (whole and (route.signed.states or not part.of.ranges)):
            headers["Range"] = f"bytes={part.at}-{part.end - 1}"
        elif part.at > part.start:
            shop.progress.found(-part.rewind())
        answer = request(shop.pool, place.url, headers, route.signed.tls, owner=shop)
        try:
            _check_expected(route, place, answer, part)
            if answer.status in _REDIRECTS:
                _follow(route, place, answer, part)
            elif answer.status in (200, 206):
                _check_confirmed(route, part)
                return answer
            else:
                raise answers.failure(answer.status, answer.headers, what=part.of.file.path)
        except BaseException:
            answer.close()
            raise
        answer.close()
    raise Stalled(Reason.SOURCE_ERROR, f"{part.of.file.path}: too many redirects")


def _follow(route: Route, place: Place, answer: Answer, part: PartWork) -> None:
    target = urljoin(place.url, answer.headers.get("location", ""))
    old, new = urlsplit(place.url), urlsplit(target)
    if new.scheme not in {"http", "https"} or not new.hostname:
        raise Stalled(
            Reason.SOURCE_ERROR,
            f"{part.of.file.path}: redirected to something that is no web address",
        )
    headers = place.headers
    if (old.scheme, old.netloc) != (new.scheme, new.netloc):
        secret = route.signed.secret_headers
        headers = {name: value for name, value in headers.items() if name.lower() not in secret}
    route.place = Place(target, headers)


def _check_expected(route: Route, place: Place, answer: Answer, part: PartWork) -> None:
    for name, value in route.signed.expect.items():
        found = answer.headers.get(name)
        # After a redirect the same header may mean something else.
        elsewhere = route.seen.get(name, place.url) != place.url
        if found is None or elsewhere or answer.status >= 400:
            continue
        if found != value:
            raise SourceChanged(f"{part.of.file.path} changed: another {name}")
        route.seen[name] = place.url


def _check_confirmed(route: Route, part: PartWork) -> None:
    missing = route.signed.expect.keys() - route.seen
    if missing:
        raise SourceChanged(
            f"{part.of.file.path}: the source no longer sends {', '.join(sorted(missing))}"
        )


def _copy(part: PartWork, source: Path, fd: int, writer: Writer, shop: Workshop) -> None:
    """From this machine: shared blocks where the file system can, else a plain copy; read once for the digests."""
    what = part.of.file.path
    shop.progress.found(-part.rewind())
    try:
        before = source.stat()
    except FileNotFoundError as exc:
        raise SourceChanged(f"{what} is gone") from exc
    end = part.end if part.end is not None else before.st_size
    if before.st_size != (part.of.size if part.of.size is not None else end):
        raise SourceChanged(
            f"{what} has {before.st_size} bytes now, {part.of.size} when it was listed"
        )
    cloned = part.is_whole_file and end > 0 and clone(source, fd)
    buffer = _buffer()
    with source.open("rb", buffering=0) as file:
        file.seek(part.start)
        while part.at < end:
            shop.check()
            count = file.readinto(buffer[: min(len(buffer), end - part.at)]) or 0
            if count == 0:
                raise SourceChanged(f"{what} became shorter while it was copied")
            if not cloned:
                writer.write(buffer[:count], part.at)
            feed(part.hashers, buffer[:count])
            part.at += count
            shop.progress.found(count)
            shop.throttle.spend(count, shop.stop)
    unchanged(before, source, what=what)


def new_route(signed: SignedRequest) -> Route:
    return Route(signed, time.monotonic(), Place(signed.url, dict(signed.headers)))


def _route(part: PartWork) -> Route:
    route = part.route
    if not isinstance(route, Route):
        raise TypeError(f"{part.of.file.path} was not signed")
    return route


def _buffer() -> memoryview:
    """This thread's own; page-aligned, and kept for its next part."""
    found: memoryview | None = getattr(_local, "buffer", None)
    if found is None:
        found = memoryview(mmap.mmap(-1, BUFFER_BYTES))
        _local.buffer = found
    return found
