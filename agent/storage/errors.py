"""What the store cannot do, and why; foreign `OSError`s are translated here and nowhere else.

Retryable
└── StoreError          reason StorageNotReady: the whole root is in trouble, not one copy
    ├── StoreLocked         another agent holds this root
    ├── LayoutUnknown       the root carries a marker that this version does not understand; nothing was touched
    └── StoreUnavailable    the root or its marker is gone, not writable or not mounted; nothing was touched
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from agent.errors import FetchError, Retryable, Stalled
from shared.domain.reasons import Reason


class StoreError(Retryable):
    """The store as a whole cannot serve; no copy is fetched and nothing is deleted while it lasts."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.STORAGE_NOT_READY, message)


class StoreLocked(StoreError):
    """Another process works on this root."""


class LayoutUnknown(StoreError):
    """The root belongs to a newer version, or to something else."""


class StoreUnavailable(StoreError):
    """The disk is not mounted, was exchanged under the agent, or cannot be written."""


class Cancelled(Exception):
    """The caller's stop flag was seen; nothing was found out and nothing published. Not a failure of the copy."""


_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_ADVICE = {
    errno.EROFS: "the file system is mounted read-only",
    errno.EIO: "the disk reports an input/output error",
    errno.EACCES: "the agent's user may not do that",
    errno.EPERM: "the agent's user may not do that",
    errno.EMFILE: "the agent has too many files open",
    errno.ENFILE: "the machine has too many files open",
    errno.EMLINK: "a file has too many hard links",
    errno.EBUSY: "something is mounted there",
}


def describe(exc: OSError) -> str:
    """The error in words, with what is known about its cause."""
    text = os.strerror(exc.errno) if exc.errno is not None else str(exc)
    advice = _ADVICE.get(exc.errno) if exc.errno is not None else None
    return f"{text} ({advice})" if advice else text


def translate(exc: OSError, what: str) -> FetchError:
    """The typed error for a system call that failed while `what` was done."""
    if exc.errno in _NO_SPACE:
        blocked = "the disk quota is used up" if exc.errno == errno.EDQUOT else "the disk is full"
        return Stalled(
            Reason.INSUFFICIENT_STORAGE, f"{what}: {blocked} (no free blocks or no free inodes)"
        )
    return Retryable(Reason.DISK_ERROR, f"{what}: {describe(exc)}")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns any `OSError` of the block into a `FetchError` that begins with `what`."""
    try:
        yield
    except OSError as exc:
        raise translate(exc, what) from exc
