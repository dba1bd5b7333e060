"""Compares a folder that somebody else made with what the source says it should hold."""

import stat
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from agent.manifest import RemoteFile, Strength
from agent.storage.inspection import OWN_TROUBLE
from agent.storage.tree import TreeFile
from agent.transfer.checksums import hash_file

# Notes that a download by huggingface_hub leaves in a model's folder; nobody reads them any more.
_NOTES = ".cache/huggingface"


def equal_files(
    folder: Path, wanted: Sequence[RemoteFile], cancelled: Callable[[], bool]
) -> tuple[TreeFile, ...] | None:
    """The files with what was computed of them, when the folder holds exactly the wanted ones; else None.

    Blocking: reads every byte, but only after all names and sizes have been found right. Links and devices are
    never equal, nor is a file whose digest the source does not state, as nothing would prove it, nor one that cannot be read.
    What lies in `.cache/huggingface` besides wanted files does not count.
    """
    if any(not file.digests for file in wanted):
        return None
    try:
        return _equal_files(folder, wanted, cancelled)
    except OSError as exc:
        if exc.errno in OWN_TROUBLE:
            raise
        return None


def _equal_files(
    folder: Path, wanted: Sequence[RemoteFile], cancelled: Callable[[], bool]
) -> tuple[TreeFile, ...] | None:
    expected = {file.path: file for file in wanted}
    sizes = _regular_files(folder, expected.keys())
    if sizes is None or sizes.keys() != expected.keys():
        return None
    if any(file.size not in (None, sizes[path]) for path, file in expected.items()):
        return None
    files: list[TreeFile] = []
    for path, file in sorted(expected.items()):
        stated = file.digests[0]
        computed = hash_file(folder / path, (stated.algorithm,), cancelled)
        if stated not in computed:
            return None
        files.append(
            TreeFile(path, sizes[path], computed, file.validator, Strength(stated.algorithm.value))
        )
    return tuple(files)


def _regular_files(folder: Path, wanted: Collection[str]) -> dict[str, int] | None:
    """Sizes by path; None when there is anything else than files and folders."""
    sizes: dict[str, int] = {}
    folders = [folder]
    while folders:
        for entry in folders.pop().iterdir():
            path = entry.relative_to(folder).as_posix()
            status = entry.lstat()
            if stat.S_ISDIR(status.st_mode):
                folders.append(entry)
            elif path.startswith(f"{_NOTES}/") and path not in wanted:
                continue
            elif stat.S_ISREG(status.st_mode):
                sizes[path] = status.st_size
            else:
                return None
    return sizes
