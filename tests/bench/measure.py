"""One run of one client, from an empty folder to files that are there."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers import HOME

# Read on and on, and never twice.
_HOLE_BYTES = 8 << 40
# The kernel keeps about this much free by itself; filling it would only push out the models.
_SPARE_BYTES = 2 << 30
# The first time takes 40 s for 16 GiB, later ones a second; a busy machine is not waited for.
_FILL_SECONDS = 40.0
_MANY_FILES = 1000
_RUNNER = Path(__file__).with_name("runner.py")


@dataclass(frozen=True)
class Run:
    """cpu: seconds, `system` of them in the kernel. settle: seconds until what was written is durable, after the end.

    moved: bytes that the server sent. others: cores that were in use just before.
    """

    wall: float
    cpu: float
    system: float
    peak: int
    settle: float = 0.0
    moved: int = 0
    others: float = 0.0


# What a program says itself that its work took, in the folder it was given; without its start.
USED = "used.json"


class Failed(Exception):
    """The client did not do what it was to do."""


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    folder: Path,
    name: str,
    kill_at: int = 0,
) -> Run:
    """Raises Failed with the end of its output, unless it was to be killed."""
    others, result, log = _cores_in_use(), folder / "result.json", folder / f"{name}.log"
    result.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    runner = [sys.executable, "-IS", str(_RUNNER), str(result), str(log), str(kill_at), *command]
    home = folder / "home"
    home.mkdir(exist_ok=True)
    try:
        subprocess.run(
            runner,
            env={**_nobodys(), "HOME": str(home), **environment},
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise Failed(f"{name}: {type(error).__name__}") from error
    found = json.loads(result.read_text())
    if found["code"] and not kill_at:
        said = log.read_text(errors="replace").strip().rpartition("\n")[2][-300:]
        raise Failed(f"{name} ended with {found['code']}: {said}")
    return Run(found["wall"], found["cpu"], found["system"], found["peak"], others=others)


def _cores_in_use() -> float:
    """By whoever else is on this machine: measured while nothing of ours runs."""
    before, started = _busy(), time.monotonic()
    time.sleep(0.5)
    return (_busy() - before) / (time.monotonic() - started)


def _busy() -> float:
    """Seconds of processor time since the start, of all cores; waiting for a disk is not being busy."""
    user, nice, system, _, _, *interrupts = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def settle() -> float:
    """Seconds until all that was written is on the disk."""
    started = time.monotonic()
    os.sync()
    return time.monotonic() - started


class Ground:
    """What every run starts from: an empty folder, a disk with nothing left to do, and no free memory.

    A virtual machine gives free memory back to its host, and pays for each page that it takes again: whoever ran first
    after a large file was deleted would pay for all. So memory is filled with the pages of a file that is one hole.
    """

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self._aside = folder / "aside"
        self._hole = folder / "hole"
        self._at = 0
        with self._hole.open("wb") as file:
            file.truncate(_HOLE_BYTES)

    def prepare(self) -> None:
        self._clear()
        buffer = bytearray(8 << 20)
        deadline = time.monotonic() + _FILL_SECONDS
        with self._hole.open("rb", buffering=0) as file:
            file.seek(self._at)
            for _ in range((_free() - _SPARE_BYTES) // len(buffer)):
                if time.monotonic() > deadline:
                    break
                self._at += file.readinto(buffer)
        self.out.mkdir()
        os.sync()

    def _clear(self) -> None:
        """For minutes ext4 uses no inode again that was deleted: after thousands of deletions a new file costs it 0.2 ms of looking
        for another one (`recently_deleted` in fs/ext4/ialloc.c), so many files are only put aside.
        """
        if self.out.exists() and sum(len(files) for _, _, files in os.walk(self.out)) > _MANY_FILES:
            self._aside.mkdir(exist_ok=True)
            self.out.rename(self._aside / f"{len(list(self._aside.iterdir()))}")
        # What is deleted is filled again before it is given back, which the kernel does every 2 s.
        shutil.rmtree(self.out, ignore_errors=True)


def _free() -> int:
    """Bytes of memory that nothing uses, not even as cache."""
    line = Path("/proc/meminfo").read_text().splitlines()[1]
    return int(line.split()[1]) << 10


def check(folder: Path, sizes: Mapping[str, int], name: str) -> None:
    """Every file is there at its size."""
    for file, size in sizes.items():
        path = folder / file
        if not path.is_file() or path.stat().st_size != size:
            raise Failed(f"{name} did not bring {file}")


def _nobodys() -> dict[str, str]:
    """This machine's environment without anybody's identity, proxies or settings."""
    strange = ("AWS_", "GOOGLE_", "HF_", "HUGGING", "LOCALMODEL_", "RCLONE_", "STORAGE_EMULATOR")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(strange) and not name.lower().endswith("_proxy")
    }
    # As where they are installed, programs in Python find their bytecode, whatever is set here.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "PYTHONPYCACHEPREFIX": str(HOME / "bytecode")}
