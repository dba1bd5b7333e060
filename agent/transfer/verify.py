"""Whether what is on disk is what the source states. Blocking, in steps; for the hashing and reading threads."""

import errno
from typing import Final

from agent.manifest import Algorithm, Digest
from agent.transfer.checksums import (
    Crc,
    Hasher,
    crc_text,
    hash_range,
    is_combinable,
    join,
    new_hasher,
)
from agent.transfer.crew import Steps
from agent.transfer.files import disk_errors, give_up, opened, trim
from agent.transfer.journal import Claim
from agent.transfer.pages import forget
from agent.transfer.parts import Range
from agent.transfer.work import FileWork
from agent.transfer.workshop import Workshop

# What is read between two looks at whether others wait.
_STEP: Final = 16 << 20


def recover(work: FileWork, shop: Workshop) -> Steps[None]:
    """Take over the ranges that the journal claims and whose bytes on disk prove it."""
    claims = shop.journal.claims(work.id)
    if not claims or not work.ranges or work.size is None or claims[-1].range.end > work.size:
        return
    stated = shop.journal.stated(work.id)
    if stated is not None:
        work.learn([stated])
    with disk_errors(work.file.path), opened(shop.root, work.file.path) as fd:
        # A longer version may have come in between, and gone again.
        trim(fd, work.size)
        for claim in claims:
            crcs = yield from _crcs(fd, claim.range, work, shop)
            if crcs is not None and crcs[Algorithm.CRC32C] == claim.crc32c:
                work.done[claim.range] = crcs
                shop.progress.found(claim.range.size)


def advance(work: FileWork, shop: Workshop) -> Steps[None]:
    """Hash on, in order, over what is on disk without a gap, as far as it can be read."""
    if work.sequential is None or work.size is None or work.hashes_itself:
        return
    end = _contiguous(work)
    if work.whole is None:
        work.whole, work.hashed = new_hasher(work.sequential, work.size), 0
    if end > work.hashed:
        with disk_errors(work.file.path), opened(shop.root, work.file.path) as fd:
            while work.hashed < end:
                stop = min(end, work.hashed + _STEP)
                if not _readable(fd, Range(work.hashed, stop), [work.whole], work, shop):
                    # What it has seen of this step is not known.
                    work.whole, work.hashed = None, 0
                    return
                work.hashed = stop
                yield


def digests(work: FileWork) -> tuple[Digest, ...] | None:
    """CRC-32C and the stated digest as computed, or None when the stated one says otherwise. All parts must be there."""
    parts = sorted(work.done.items())

    def joined(algorithm: Algorithm) -> str:
        whole = join(algorithm, ((crcs[algorithm], part.size) for part, crcs in parts))
        return crc_text(algorithm, whole)

    computed = [Digest(Algorithm.CRC32C, joined(Algorithm.CRC32C))]
    stated = work.stated
    if stated is None:
        return tuple(computed)
    if is_combinable(stated.algorithm):
        whole = joined(stated.algorithm)
    elif work.hashed < (work.size or 0):
        return None
    else:
        hasher: Hasher = work.whole or new_hasher(stated.algorithm, 0)
        whole = hasher.hexdigest()
    if whole != stated.value:
        return None
    if stated.algorithm is not Algorithm.CRC32C:
        computed.insert(0, stated)
    return tuple(computed)


def bad_ranges(work: FileWork, shop: Workshop) -> Steps[list[Range]]:
    """Which ranges to fetch again after a mismatch: those whose bytes on disk are not the received ones, else all."""
    bad = []
    with disk_errors(work.file.path), opened(shop.root, work.file.path) as fd:
        for part, crcs in sorted(work.done.items()):
            if (yield from _crcs(fd, part, work, shop)) != crcs:
                bad.append(part)
    return bad or sorted(work.done)


def claims(work: FileWork) -> list[Claim]:
    """What the journal may say of the file."""
    return [
        Claim(part, crcs[Algorithm.CRC32C]) for part, crcs in sorted(work.done.items()) if part.size
    ]


def _crcs(
    fd: int, part: Range, work: FileWork, shop: Workshop
) -> Steps[dict[Algorithm, int] | None]:
    """None where the bytes are not there, or cannot be read: then their blocks are given up."""
    hashers = {algorithm: Crc(algorithm) for algorithm in work.crcs}
    for start in range(part.start, part.end, _STEP):
        stop = min(part.end, start + _STEP)
        if not _readable(fd, Range(start, stop), list(hashers.values()), work, shop):
            return None
        yield
    return {algorithm: hasher.value for algorithm, hasher in hashers.items()}


def _readable(fd: int, part: Range, hashers: list[Hasher], work: FileWork, shop: Workshop) -> bool:
    """Feeds the hashers; False where the file ends before, or the disk cannot read what it has: it gets new blocks once."""
    try:
        whole = hash_range(fd, part.start, part.end, hashers, shop.stop.is_set)
    except OSError as exc:
        if exc.errno != errno.EIO or work.mismatches:
            raise
        give_up(fd, part.start, part.size)
        return False
    if shop.direct:
        forget(fd, part.start, part.end)
    return whole


def _contiguous(work: FileWork) -> int:
    end = 0
    for part in sorted(work.done):
        if part.start > end:
            break
        end = part.end
    return end
