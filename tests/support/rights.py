"""Root that may not do everything, for a while."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SOMEBODY = 65534
"""Another user, whose files are closed then as their mode says."""

_VERSION = 0x20080522
_OVERRIDING = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH

_libc = ctypes.CDLL(None, use_errno=True)
_Sets = ctypes.c_uint32 * 6


@contextmanager
def modes_count() -> Iterator[None]:
    """Modes of files bind this thread, and those that it starts meanwhile."""
    if os.geteuid() != 0:
        pytest.skip("giving files to others takes root")
    before = _Sets()
    _call("capget", before)
    bound = _Sets(*before)
    bound[0] &= ~_OVERRIDING
    _call("capset", bound)
    try:
        yield
    finally:
        _call("capset", before)


def _call(name: str, sets: ctypes.Array[ctypes.c_uint32]) -> None:
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    if getattr(_libc, name)(header, sets) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
