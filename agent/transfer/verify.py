"""Whether what is on disk is what the source states. Blocking; for the hashing threads."""

from collections.abc import Callable

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
from agent.transfer.files import disk_errors, opened
from agent.transfer.journal import Claim
from agent.transfer.pages import forget
from agent.transfer.parts import Range
from agent.transfer.work import FileWork
from agent.transfer.workshop import Workshop

Cancelled = Callable[[], bool]


def recover(work: FileWork, shop: Workshop) -> int:
    """Take over the ranges that the journal claims and whose bytes on disk prove it; returns their bytes."""
    claims = shop.journal.claims(work.id)
    if not claims or work.size is None or claims[-1].range.end > work.size:
        return 0
    stated = shop.journal.stated(work.id)
    if stated is not None:
        work.learn([stated])
    with disk_errors(work.file.path), opened(shop.root, work.file.path) as fd:
        for claim in claims:
            crcs = _crcs(fd, claim.range, work, shop.stop.is_set)
            if crcs is not None and crcs[Algorithm.CRC32C] == claim.crc32c:
                work.done[claim.range] = crcs
    return sum(part.size for part in work.done)


def advance(work: FileWork, shop: Workshop) -> None:
    """Hash on, in order, over what is on disk without a gap."""
    if work.sequential is None or work.size is None:
        return
    end = _contiguous(work)
    if work.whole is None:
        work.whole, work.hashed = new_hasher(work.sequential, work.size), 0
    if end > work.hashed:
        with disk_errors(work.file.path), opened(shop.root, work.file.path) as fd:
            hash_range(fd, work.hashed, end, [work.whole], shop.stop.is_set)
            if shop.direct:
                forget(fd, work.hashed, end)
        work.hashed = end


def digests(work: FileWork, shop: Workshop) -> tuple[Digest, ...] | None:
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
    else:
        if work.size and work.hashed < work.size:
            advance(work, shop)
        hasher: Hasher = work.whole or new_hasher(stated.algorithm, 0)
        whole = hasher.hexdigest()
    if whole != stated.value:
        return None
    if stated.algorithm is not Algorithm.CRC32C:
        computed.insert(0, Digest(stated.algorithm, whole))
    return tuple(computed)


def bad_ranges(work: FileWork, shop: Workshop) -> list[Range]:
    """Which ranges to fetch again after a mismatch: those whose bytes on disk are not the received ones, else all."""
    with disk_errors(work.file.path), opened(shop.root, work.file.path) as fd:
        bad = [
            part
            for part, crcs in sorted(work.done.items())
            if _crcs(fd, part, work, shop.stop.is_set) != crcs
        ]
    return bad or sorted(work.done)


def claims(work: FileWork) -> list[Claim]:
    """What the journal may say of the file."""
    return [
        Claim(part, crcs[Algorithm.CRC32C]) for part, crcs in sorted(work.done.items()) if part.size
    ]


def _crcs(
    fd: int, part: Range, work: FileWork, cancelled: Cancelled
) -> dict[Algorithm, int] | None:
    hashers = {algorithm: Crc(algorithm) for algorithm in work.crcs}
    if not hash_range(fd, part.start, part.end, list(hashers.values()), cancelled):
        return None
    return {algorithm: hasher.value for algorithm, hasher in hashers.items()}


def _contiguous(work: FileWork) -> int:
    end = 0
    for part in sorted(work.done):
        if part.start > end:
            break
        end = part.end
    return end
