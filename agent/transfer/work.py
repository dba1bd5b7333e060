"""What one fetch knows of each file and each range while it runs. Shared by the event loop and the threads."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from agent.manifest import Algorithm, Digest, RemoteFile, Strength
from agent.origin import LocalPath, Readable, SignedRequest
from agent.transfer.checksums import Crc, Hasher, is_combinable, join, new_hasher
from agent.transfer.journal import file_id
from agent.transfer.parts import Range

# Of several stated digests. MD5 finds accidents no better than a CRC, but needs all bytes in order: 1.5 CPU s/GB.
_PREFERRED = [*(a for a in Algorithm if a is not Algorithm.MD5), Algorithm.MD5]

# Cuts are where direct writes may begin, and what is cut off is worth a connection of its own.
_CUT: Final = 2 << 20
LEAST_CUT: Final = 4 << 20
# A request asks for what its connection brings in about this time: round trips do not count, and what is not asked for
# yet can be given to another connection without anything being sent in vain.
_REQUEST_SECONDS: Final = 2.0
_FIRST_REQUEST: Final = 16 << 20
_LEAST_REQUEST, _MOST_REQUEST = 8 << 20, 256 << 20
# Of a thread's time, as much as this in writes: the disk is what all wait for, and has no time to be read from. A mean
# over so many writes.
_BUSY: Final = 0.85
_WRITES: Final = 32
# Claims that together have this size count as one range, so that a file has few; it is what a bad byte costs.
_RANGE: Final = 64 << 20


def _preferred(digests: Sequence[Digest]) -> Digest | None:
    return min(digests, key=lambda digest: _PREFERRED.index(digest.algorithm), default=None)


@dataclass(frozen=True, slots=True)
class Place:
    """A URL and the headers that may be sent to it; one value, so that no thread ever pairs them wrongly."""

    url: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(slots=True, eq=False)
class Route:
    """Where a file's bytes are asked for: as signed, or where a redirect led. seen: expected headers, and who confirmed them."""

    signed: SignedRequest
    signed_at: float
    place: Place
    seen: dict[str, str] = field(default_factory=dict)

    def expires(self, *, now: float) -> bool:
        return self.signed.expires_in is not None and now - self.signed_at >= self.signed.expires_in


@dataclass(slots=True, eq=False)
class FileWork:
    """One file. index: its place in the job. stated: the digest that decides, or None; learned: the same, when it came with the bytes. origin: who serves it now.

    ranges: whether the server keeps to ranges. restart: to be fetched anew, as soon as nobody writes to it; parts of
    an older generation are then void. pending: parts that are not finished. hashed: bytes that `whole` has seen.
    hashes_itself: its first part still computes `whole` from what arrives; a cursor goes on from where that part ends.
    request: bytes to be asked for at a time. rate: of the last request that ended, in bytes per second. found: a file of
    this machine, when the first of its parts was copied. writing: the share of their time that its threads wait for the
    disk.
    """

    file: RemoteFile
    index: int = 0
    stated: Digest | None = None
    learned: Digest | None = None
    id: str = ""
    origin: int = 0
    route: Route | LocalPath | Readable | None = None
    reserved: bool = False
    ranges: bool = True
    restart: bool = False
    generation: int = 0
    pending: int = 0
    in_flight: int = 0
    mismatches: int = 0
    done: dict[Range, dict[Algorithm, int]] = field(default_factory=dict)
    whole: Hasher | None = None
    hashed: int = 0
    hashes_itself: bool = False
    size: int | None = None
    request: int = _FIRST_REQUEST
    rate: float = 0.0
    found: os.stat_result | None = None
    writing: float = 0.0
    disk_is_busy: bool = False

    def __post_init__(self) -> None:
        self.id = file_id(self.file)
        self.size = self.file.size
        self.ranges = self.file.versioned
        self.stated = _preferred(self.file.digests)
        if self.size is None and self.stated and self.stated.algorithm is Algorithm.GIT_SHA1:
            # git hashes the size in front of the content.
            self.stated = None

    @property
    def crcs(self) -> set[Algorithm]:
        """CRCs that are computed for every part: CRC-32C always, the stated one when it can be combined."""
        if self.stated is not None and is_combinable(self.stated.algorithm):
            return {Algorithm.CRC32C, self.stated.algorithm}
        return {Algorithm.CRC32C}

    @property
    def sequential(self) -> Algorithm | None:
        """The stated algorithm, when it needs the file's bytes in order."""
        if self.stated is None or is_combinable(self.stated.algorithm):
            return None
        return self.stated.algorithm

    @property
    def strength(self) -> Strength:
        return Strength(self.stated.algorithm.value) if self.stated else Strength.SIZE

    def learn(self, digests: Sequence[Digest]) -> None:
        """Digests that came with the bytes. Before any part has received some."""
        if self.stated is None:
            self.stated = self.learned = _preferred(digests)

    def paced(self, count: int, seconds: float) -> None:
        """A request brought so many bytes in so much time."""
        self.rate = count / max(seconds, 1e-3)
        wanted = self.rate * _REQUEST_SECONDS
        self.request = int(min(max(wanted, _LEAST_REQUEST), _MOST_REQUEST)) // _CUT * _CUT

    def reset(self) -> int:
        """Forget all that was fetched; returns how many bytes that was."""
        lost = sum(part.size for part in self.done)
        self.done.clear()
        self.whole, self.hashed, self.hashes_itself = None, 0, False
        self.restart, self.found = False, None
        self.generation += 1
        return lost


@dataclass(slots=True, eq=False)
class PartWork:
    """One range of a file; `end` is None for a file of unknown size.

    route: the file's when the thread set out; another lane may discard the file's own meanwhile. at: bytes before it are
    on disk. taken: bytes before it are on disk or this thread brings them next. asked: where the request that runs ends.
    claimed: bytes before it are in the journal too, and their CRCs in the file's `done`; `crcs` run from there. spans: the
    last claims, which are not one range yet. whole: the stated digest, from the file's first byte, of what arrived.
    divisible: its server keeps to ranges. leaves: its place is wanted by another copy. wrote_at: when
    the last piece was on disk; a monotonic clock's.
    """

    of: FileWork
    start: int
    end: int | None
    at: int = -1
    claimed: int = -1
    crcs: dict[Algorithm, Crc] = field(default_factory=dict)
    spans: list[Range] = field(default_factory=list)
    whole: Hasher | None = None
    route: Route | LocalPath | Readable | None = None
    finished: bool = False
    generation: int = 0
    divisible: bool = False
    leaves: bool = False
    taken: int = 0
    asked: int | None = None
    wrote_at: float = 0.0
    lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        self.generation = self.of.generation
        self.rewind()

    @property
    def void(self) -> bool:
        """The file is to be fetched anew, or already is."""
        return self.of.restart or self.generation != self.of.generation

    @property
    def is_whole_file(self) -> bool:
        return self.start == 0 and self.end == self.of.size

    def rewind(self) -> int:
        """Begin anew; returns how many bytes are lost by it."""
        lost = max(0, self.at - self.start)
        if lost:
            for span in [span for span in list(self.of.done) if self._holds(span)]:
                del self.of.done[span]
        self.spans.clear()
        self.at = self.taken = self.claimed = self.start
        self.crcs = {algorithm: Crc(algorithm) for algorithm in self.of.crcs}
        sequential = self.of.sequential
        # A part that began as the whole file is hashed as it arrives; what others bring, by a cursor over what is there.
        arriving = self.is_whole_file or self.whole is not None
        self.whole = None
        if sequential and arriving and not self.finished:
            self.whole = new_hasher(sequential, self.of.size or 0)
            self.of.hashes_itself = True
        return lost

    def ask(self) -> bool:
        """Settle where the next request ends, unless nothing is missing; no cuts until `divisible` is set."""
        with self.lock:
            self.divisible = False
            self.asked = self.end
            if self.end is not None:
                # Ends are where direct writes may begin, and no request is for a mere rest.
                stop = (self.at + self.of.request) // _CUT * _CUT
                self.asked = stop if self.end - stop >= LEAST_CUT else self.end
            return self.end is None or self.at < self.end

    def ask_all(self) -> None:
        """The answer brings all there is."""
        with self.lock:
            self.asked = self.end

    def take(self, most: int) -> int:
        """How many bytes to receive next: up to `most`, to a multiple of it; 0 at the end of what was asked for."""
        with self.lock:
            # A multiple, also after a cut in the middle: what follows is aligned for direct writes.
            room = most - self.at % most
            if self.asked is not None:
                room = min(room, self.asked - self.at)
            self.taken = self.at + room
            return room

    def cut(self, *, in_vain: bool = False) -> "PartWork | None":
        """The latter half of what nobody has asked for yet, as a part of its own, or None where that is not worth while.

        in_vain: of what nobody has taken yet, although it may be on its way already.
        """
        with self.lock:
            if self.end is None or not self.divisible or self.finished or self.void:
                return None
            begin = self.taken if in_vain else max(self.taken, self.asked or self.end)
            middle = -(-(begin + self.end) // 2 // _CUT) * _CUT
            if self.end - middle < LEAST_CUT:
                return None
            rest = PartWork(self.of, middle, self.end)
            self.end = middle
            self.asked = min(self.asked or self.end, middle)
            return rest

    def wrote(self, began: float, ended: float) -> None:
        """A piece, from when to when. A disk that was busy once counts as busy."""
        share = (ended - began) / max(ended - self.wrote_at, 1e-6)
        self.wrote_at = ended
        self.of.writing += (share - self.of.writing) / _WRITES
        self.of.disk_is_busy = self.of.disk_is_busy or self.of.writing > _BUSY

    def claim(self) -> Range:
        """What was received since the last claim, now among the file's done ranges."""
        span = Range(self.claimed, self.at)
        self.of.done[span] = {algorithm: crc.value for algorithm, crc in self.crcs.items()}
        self.crcs = {algorithm: Crc(algorithm) for algorithm in self.of.crcs}
        self.claimed = self.at
        self.spans.append(span)
        if self.at - self.spans[0].start >= _RANGE:
            self._merge()
        return span

    def finish(self) -> None:
        """All bytes are claimed."""
        self._merge()
        if self.of.size is None:
            self.of.size = self.at
        if self.whole is not None:
            # In this order: a cursor in another thread may look any time.
            self.of.whole, self.of.hashed = self.whole, self.at
            self.of.hashes_itself = False
        self.finished = True

    @property
    def hashers(self) -> list[Hasher]:
        return [*self.crcs.values(), *((self.whole,) if self.whole else ())]

    def _merge(self) -> None:
        spans, done = self.spans, self.of.done
        if len(spans) > 1:
            merged = {
                algorithm: join(algorithm, [(done[span][algorithm], span.size) for span in spans])
                for algorithm in self.of.crcs
            }
            for span in spans:
                del done[span]
            done[Range(spans[0].start, spans[-1].end)] = merged
        spans.clear()

    def _holds(self, span: Range) -> bool:
        return self.start <= span.start and (self.end is None or span.end <= self.end)
