"""How files are cut into ranges, and in which order these are fetched. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

# Files up to this size share a unit of work: below it the round trip costs more than the bytes.
SMALL_FILE: Final = 1 << 20
# A batch is small enough to be lost, and large enough for as many connections as a budget allows. The first ones tell how
# many are worth while.
_BATCH_FILES: Final = (16, 64, 256)
_BATCH_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Bytes [start, end) of a file."""

    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


def split(size: int, *, part_size: int, done: Iterable[Range] = ()) -> list[Range]:
    """What is still to be fetched of a file: ranges of at most `part_size`, in offset order, none of `done` among them.

    Cuts are at multiples of `part_size`, so that a file is cut alike in every attempt. `done` must not overlap.
    """
    gaps = []
    at = 0
    for have in sorted(done):
        gaps.append(Range(at, have.start))
        at = have.end
    gaps.append(Range(at, size))
    parts = []
    for gap in gaps:
        start = gap.start
        while start < gap.end:
            end = min(gap.end, (start // part_size + 1) * part_size)
            parts.append(Range(start, end))
            start = end
    return parts


def batches(sizes: Sequence[int | None], *, part_size: int) -> tuple[list[int], list[list[int]]]:
    """Indices of large files in the order in which they are fetched, and of small ones in batches.

    The largest come first, so that no straggler is alone at the end; files of unknown size count as the largest.
    """
    small_limit = min(SMALL_FILE, part_size)
    large: list[tuple[int, int]] = []
    small: list[tuple[int, int]] = []
    for index, size in enumerate(sizes):
        if size is not None and size <= small_limit:
            small.append((size, index))
        else:
            large.append((-(size if size is not None else 1 << 62), index))
    groups: list[list[int]] = []
    filled = 0
    for size, index in small:
        most = _BATCH_FILES[min(len(groups), len(_BATCH_FILES)) - 1]
        if not groups or len(groups[-1]) == most or filled + size > _BATCH_BYTES:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += size
    return [index for _, index in sorted(large)], groups
