"""What the kernel tells about a path: what is mounted there, and who holds a lock."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """kind: of file system."""

    point: Path
    kind: str
    device: str


def mount_of(path: Path) -> Mount | None:
    """The file system that a path is on; None when the kernel does not tell."""
    real = path.resolve()
    found: Mount | None = None
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields, _, source = line.partition(" - ")
            kind, device, *_ = source.split(" ")
            point = Path(_plain(fields.split(" ")[4]))
            # A later mount hides earlier ones at the same place.
            deeper = found is None or len(point.parts) >= len(found.point.parts)
            if deeper and real.is_relative_to(point):
                found = Mount(point, kind, _plain(device))
    return found


def holder(lock: Path) -> str | None:
    """Which process has locked a file, as far as this one can see; it is not touched."""
    try:
        found = lock.stat()
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in locks:
        # 1: FLOCK ADVISORY WRITE 4711 fe:01:1048590 0 EOF
        _, kind, _, _, process, file, *_ = line.replace("-> ", "").split()
        major, minor, inode = file.split(":")
        device = os.makedev(int(major, 16), int(minor, 16))
        if (kind, device, int(inode)) == ("FLOCK", found.st_dev, found.st_ino):
            return f"process {process}{_program(process)}"
    return None


def _program(process: str) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return f" ({' '.join(Path(word).name for word in words[:3] if word)})"
    return ""


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda code: chr(int(code[1], 8)), text)
