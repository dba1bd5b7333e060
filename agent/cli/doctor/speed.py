"""How fast the disk takes bytes, tried with a file that has no name."""

import errno
import mmap
import os
from pathlib import Path
from time import monotonic
from typing import Final

from agent.cli.doctor.finding import Finding, ok, warn
from agent.storage.errors import describe
from agent.storage.layout import PRIVATE
from agent.transfer.pages import Writer
from shared.domain.quantity import human_bytes

_MOST_BYTES: Final = 256 << 20
_MOST_SECONDS: Final = 3.0
_CHUNK: Final = 4 << 20
# No model is made to wait for space by this.
_SHARE_OF_FREE: Final = 4
# Slower than a single hard disk.
_SLOW: Final = 60 << 20
_NO_NAMELESS: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})


def measured(root: Path, usable: int) -> Finding:
    """Writes at most 256 MiB for at most 3 s, past the page cache where that goes. usable: bytes that may be taken."""
    most = min(_MOST_BYTES, usable // _SHARE_OF_FREE)
    if most < _CHUNK:
        return warn("speed", "not measured", "There is too little space.")
    inside = root / PRIVATE / "staging"
    try:
        fd = _nameless(inside if inside.is_dir() else root)
    except OSError as error:
        return warn("speed", f"not measured: {describe(error)}", "Give the folder to the user that runs the agent.")  # fmt: skip
    try:
        # Whole pages of noise: nothing that a file system could compress or leave out.
        with mmap.mmap(-1, _CHUNK) as buffer:
            buffer.write(os.urandom(_CHUNK))
            done, seconds, direct = _write(fd, memoryview(buffer), most)
        started = monotonic()
        os.fsync(fd)
        durable = monotonic() - started
    finally:
        os.close(fd)
    rate = done / (seconds + durable)
    found = f"{human_bytes(int(rate))}/s{'' if direct else ' through the page cache'}, fsync {durable * 1000:.0f} ms"
    if rate < _SLOW:
        return warn(
            "speed",
            found,
            f"100 GiB take {(100 << 30) / rate / 60:.0f} minutes at least. Look at `iostat -x` on the node for who else writes, and at the kind of the disk.",
        )
    return ok("speed", found)


def _nameless(folder: Path) -> int:
    """A file that the kernel removes when it is closed, even by a crash."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise
    path = folder / f".doctor-{os.getpid()}"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    path.unlink()
    return fd


def _write(fd: int, chunk: memoryview, most: int) -> tuple[int, float, bool]:
    """Bytes, seconds, and whether they went past the page cache."""
    writer = Writer(fd, direct=lambda: True)
    started, done = monotonic(), 0
    while done < most and monotonic() - started < _MOST_SECONDS:
        writer.write(chunk, done)
        done += len(chunk)
        if not writer.is_direct:
            # Otherwise all of it would be waited for at the end, for however long.
            os.fdatasync(fd)
    return done, monotonic() - started, writer.is_direct
