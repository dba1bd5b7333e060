"""What a thread does: ask for a range, and write what comes to its place."""

import http.client
import mmap
import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Final

from agent.errors import Retryable, SourceChanged
from agent.manifest import Algorithm
from agent.origin import LocalPath, Readable
from agent.transfer import answers
from agent.transfer.ask import ask, learn, route_of
from agent.transfer.budget import BUFFER_BYTES
from agent.transfer.connection import unreachable
from agent.transfer.files import (
    disk_errors,
    feed,
    opened,
    reserve,
    share,
    source_of,
    start_writeback,
    trim,
    unchanged,
)
from agent.transfer.journal import Claim
from agent.transfer.pages import Writer
from agent.transfer.parts import SMALL_FILE
from agent.transfer.pool import Answer
from agent.transfer.unit import GaveWay, Unit
from agent.transfer.work import PartWork
from agent.transfer.workshop import Workshop
from shared.domain.reasons import Reason

# A range is claimed in steps of this, so that a crash loses little of the parts in flight.
CLAIM_BYTES: Final = 8 << 20
_local = threading.local()


def receive(unit: Unit, shop: Workshop) -> None:
    """Bring every part of the unit to its end, in order.

    Raises FetchError, `Refused`, `RangesIgnored` or `GaveWay` at the first that fails; the unit's parts say how far it came, and a
    second call goes on from there.
    """
    for part in unit.parts:
        if part.finished or part.void:
            continue
        shop.check()
        if part.leaves:
            raise GaveWay
        what = part.of.file.path
        with disk_errors(what), opened(shop.root, what) as fd:
            if not part.of.reserved and part.of.size is not None and part.of.size > SMALL_FILE:
                came = max((span.end for span in list(part.of.done)), default=0)
                reserve(fd, part.of.size, kept=came)
                part.of.reserved = True
            elif part.of.size is not None:
                trim(fd, part.of.size)
            writer = Writer(fd, direct=partial(_goes_direct, part, shop))
            if isinstance(part.route, LocalPath):
                _copy(part, part.route.path, fd, writer, shop)
            elif isinstance(part.route, Readable):
                _read(part, part.route, fd, writer, shop)
            elif part.of.size == 0:
                # Nothing to ask for.
                pass
            else:
                _download(part, fd, writer, shop)
            if part.at > part.claimed or part.of.size in (0, None):
                _claim(part, fd, shop)
            if part.end is None:
                trim(fd, part.at)
            part.finish()


def _goes_direct(part: PartWork, shop: Workshop) -> bool:
    """Where a digest needs bytes in order that do not arrive so, they are read again: from the disk, unless that is busy."""
    size = part.of.size
    large = size is None or size > SMALL_FILE
    read_again = part.of.sequential is not None and part.whole is None
    return shop.direct and large and not (read_again and part.of.disk_is_busy)


def _claim(part: PartWork, fd: int, shop: Workshop) -> None:
    shop.check()
    crc32c = part.crcs[Algorithm.CRC32C].value
    span = part.claim()
    if span.size:
        if span.size > SMALL_FILE and not _goes_direct(part, shop):
            start_writeback(fd, span.start, span.size)
        shop.journal.add(part.of.id, Claim(span, crc32c), stated=part.of.learned)


def _download(part: PartWork, fd: int, writer: Writer, shop: Workshop) -> None:
    """In as many requests as it takes; one where the end is not known."""
    while part.ask():
        with ask(part, shop) as answer:
            _check(part, answer, shop)
            _receive_body(part, answer, fd, writer, shop)
        if part.end is None:
            return


def _check(part: PartWork, answer: Answer, shop: Workshop) -> None:
    """Whether the answer's body is what was asked for, as far as its head tells."""
    file, asked = part.of.file, part.asked
    answers.check_encoding(answer.headers, what=file.path)
    if answer.status == 206:
        answers.check_partial(answer.headers, start=part.at, size=file.size, what=file.path)
    elif asked is not None and route_of(part).signed.window is not None:
        answers.check_window(answer.headers, length=asked - part.at, what=file.path)
    else:
        answers.check_whole(answer.headers, size=file.size, what=file.path)
        if not part.is_whole_file and part.end is not None:
            raise answers.RangesIgnored
        part.ask_all()
        if part.at > part.start:
            shop.progress.found(-part.rewind())
        if part.is_whole_file:
            learn(part, answer)


def _receive_body(part: PartWork, answer: Answer, fd: int, writer: Writer, shop: Workshop) -> None:
    buffer, asked, begin, started = _buffer(), part.asked, part.at, time.monotonic()
    part.divisible = answer.status == 206 or route_of(part).signed.window is not None
    while room := part.take(shop.throttle.bite):
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
        _keep(part, buffer[:count], fd, writer, shop)
    part.of.paced(part.at - begin, time.monotonic() - started)
    if part.asked != asked:
        # Somebody else brings the rest; the connection is given up.
        return
    if answer.missing:
        # More than was asked for: a range is never longer, so this was the whole of a longer file.
        raise SourceChanged(f"{part.of.file.path} is longer than when it was listed")
    # Reads the end of a chunked body, so that the connection can be used again.
    if not answer.ended:
        answer.read_into(buffer[:1])


def _read(part: PartWork, source: Readable, fd: int, writer: Writer, shop: Workshop) -> None:
    """From a library: in the same pieces, which it makes anew each time."""
    what = part.of.file.path
    file = source.open(part.at)
    try:
        part.ask_all()
        part.divisible = part.end is not None
        while room := part.take(min(BUFFER_BYTES, shop.throttle.bite)):
            data = file.read(room)
            shop.check()
            if not data and part.end is not None:
                raise SourceChanged(f"{what} became shorter while it was read")
            if not data:
                return
            _keep(part, memoryview(data), fd, writer, shop)
        if part.end == part.of.size and file.read(1):
            raise SourceChanged(f"{what} is longer than when it was listed")
    finally:
        file.close()


def _keep(part: PartWork, data: memoryview, fd: int, writer: Writer, shop: Workshop) -> None:
    """Bytes that came, to their place on disk and into the digests."""
    if part.end is None:
        # What an earlier attempt left is written over.
        shop.room(part.at + len(data) - os.fstat(fd).st_size)
    began = time.monotonic()
    writer.write(data, part.at)
    part.wrote(began, time.monotonic())
    feed(part.hashers, data)
    part.at += len(data)
    if part.at - part.claimed >= CLAIM_BYTES:
        _claim(part, fd, shop)
    shop.progress.received(len(data))
    shop.throttle.spend(len(data), shop.stop)
    if part.leaves and part.divisible:
        raise GaveWay


def _copy(part: PartWork, source: Path, fd: int, writer: Writer, shop: Workshop) -> None:
    """From this machine: shared blocks where the file system can, else a plain copy; read once for the digests."""
    what = part.of.file.path
    shop.progress.found(-part.rewind())
    with source_of(source, what) as file:
        before = os.fstat(file)
        part.of.found = part.of.found or before
        end = part.end if part.end is not None else before.st_size
        if before.st_size != (part.of.size if part.of.size is not None else end):
            raise SourceChanged(
                f"{what} has {before.st_size} bytes now, {part.of.size} when it was listed"
            )
        shared = share(file, fd, part.start, end)
        buffer = _buffer()
        while part.at < end:
            shop.check()
            # What is shared already cannot change any more.
            count = os.preadv(
                fd if shared else file, [buffer[: min(len(buffer), end - part.at)]], part.at
            )
            if count == 0:
                raise SourceChanged(f"{what} became shorter while it was copied")
            if not shared:
                writer.write(buffer[:count], part.at)
            feed(part.hashers, buffer[:count])
            part.at += count
            shop.progress.found(count)
            shop.throttle.spend(count, shop.stop)
    unchanged(part.of.found, source, what=what)


def _buffer() -> memoryview:
    """This thread's own; page-aligned, and kept for its next part."""
    found: memoryview | None = getattr(_local, "buffer", None)
    if found is None:
        found = memoryview(mmap.mmap(-1, BUFFER_BYTES))
        _local.buffer = found
    return found
