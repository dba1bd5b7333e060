"""Where the small files of all git copies lie until they are copied: one temporary folder, within one budget."""

import hashlib
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.daemons import Abandoned, Check
from agent.errors import Stalled
from shared.domain.reasons import Reason

# A disk gives out blocks.
_BLOCK = 4096


@dataclass(slots=True, eq=False)
class Stay:
    """What one copy has there. sizes: by name in the folder."""

    sizes: dict[str, int] = field(default_factory=dict)
    over: bool = False


class Room:
    """Blocking; for threads. Equal contents lie there once, under their SHA-256."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._guests: Counter[str] = Counter()
        self._folder: Path | None = None
        self._lock = threading.Lock()

    def enter(
        self, stay: Stay, blobs: Mapping[str, bytes], what: str, check: Check
    ) -> Mapping[str, Path] | None:
        """Where each blob lies now; None while others need the room.

        Raises Stalled for what is too large even by itself, and OSError.
        """
        contents = {name: hashlib.sha256(data).hexdigest() for name, data in blobs.items()}
        sizes = {contents[name]: _blocks(data) for name, data in blobs.items()}
        if sum(sizes.values()) > self._most:
            raise Stalled(
                Reason.INVALID_SOURCE,
                f"{what} needs more than {self._most >> 20} MiB on disk without what git-lfs keeps; git is for small ones",
            )
        with self._lock:
            new = [name for name in sizes if name not in self._guests]
            if self._used + sum(sizes[name] for name in new) > self._most:
                return None
            if stay.over:
                raise Abandoned
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="git-"))
            for name, data in blobs.items():
                check()
                content = contents[name]
                if content not in stay.sizes:
                    stay.sizes[content] = sizes[content]
                    self._guests[content] += 1
                    if self._guests[content] == 1:
                        self._used += sizes[content]
                        (self._folder / content).write_bytes(data)
            return {name: self._folder / content for name, content in contents.items()}

    def leave(self, stay: Stay) -> None:
        with self._lock:
            stay.over = True
            while stay.sizes:
                content, size = stay.sizes.popitem()
                self._guests[content] -= 1
                if not self._guests[content]:
                    del self._guests[content]
                    self._used -= size
                    if self._folder is not None:
                        (self._folder / content).unlink(missing_ok=True)
            if not self._guests and self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None


def _blocks(content: bytes) -> int:
    return -(-len(content) // _BLOCK) * _BLOCK
