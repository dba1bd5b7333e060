"""Small file systems of a test's own; mounting takes root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """`options` as mount's -o has them, such as `size=8m,nr_inodes=100`."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """Such as `ro`, or `size=16m`."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
