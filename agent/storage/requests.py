"""What another program asks of the one that holds a root: `.localmodel/verify.<key>` = read this tree again, repair what is damaged.

A request stays until it was answered, over restarts too.
"""

import fcntl
import os
from pathlib import Path

from agent.storage.errors import translated
from agent.storage.layout import PRIVATE
from shared.domain.storage_key import is_storage_key

_KIND = "verify"


def in_use(root: Path) -> bool:
    """Whether some program, an agent most likely, holds the root. Raises FetchError."""
    with translated(f"looking who uses {root}"):
        try:
            fd = os.open(root / PRIVATE / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


def ask(root: Path, key: str) -> None:
    """Raises FetchError."""
    with translated(f"asking for a repair of {key}"):
        _file(root, key).touch()


def asked(root: Path) -> tuple[str, ...]:
    """Storage keys, in order. Raises FetchError."""
    with translated("looking for requests"):
        names = (name.partition(".") for name in os.listdir(root / PRIVATE))
        return tuple(sorted(key for kind, _, key in names if kind == _KIND and is_storage_key(key)))


def answered(root: Path, key: str) -> None:
    """Raises FetchError."""
    with translated(f"ending the request about {key}"):
        _file(root, key).unlink(missing_ok=True)


def _file(root: Path, key: str) -> Path:
    return root / PRIVATE / f"{_KIND}.{key}"
