"""An archive's entries as both formats give them, and what is wrong with an archive."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from agent.errors import Stalled
from shared.domain.reasons import Reason

# Pieces of content handed on: large enough for few calls, small enough to be nothing in memory.
CHUNK = 1 << 20


class Kind(Enum):
    """What may stand in an archive; devices, FIFOs and the like are refused by the readers."""

    FILE = auto()
    FOLDER = auto()
    SYMLINK = auto()
    HARDLINK = auto()


@dataclass(frozen=True, slots=True)
class Member:
    """One entry. name and target: as they stand in the archive, unchecked.

    size: bytes that the archive claims. content: the file's bytes in pieces, to be used before the next entry is asked for.
    """

    name: str
    kind: Kind
    size: int
    target: str
    executable: bool
    content: Iterator[bytes]


def shown(name: str) -> str:
    """A name that is fit for a message, whatever is in it."""
    return repr(name.encode("unicode_escape").decode()[:200])


def invalid(why: str) -> Stalled:
    return Stalled(Reason.ARCHIVE_INVALID, f"archive: {why}")


def too_large(why: str) -> Stalled:
    return Stalled(Reason.ARCHIVE_TOO_LARGE, f"archive: {why}")


def unsafe(why: str) -> Stalled:
    return Stalled(Reason.UNSAFE_PATH, f"archive: {why}")
