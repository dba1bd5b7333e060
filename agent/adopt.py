"""Compares a folder that somebody else made with what the source says it should hold."""

import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.manifest import RemoteFile, Strength
from agent.storage.tree import TreeFile
from agent.transfer.checksums import hash_file


def equal_files(
    folder: Path, wanted: Sequence[RemoteFile], cancelled: Callable[[], bool]
) -> tuple[TreeFile, ...] | None:
    """The files with what was computed of them, when the folder holds exactly the wanted ones; else None.

    Blocking: reads every byte, but only after all names and sizes have been found right. Links and devices are
    never equal, nor is a file whose digest the source does not state: nothing would prove it.
    """
    expected = {file.path: file for file in wanted}
    if any(not file.digests for file in wanted):
        return None
    sizes = _regular_files(folder)
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


def _regular_files(folder: Path) -> dict[str, int] | None:
    """Sizes by path; None when there is anything else than files and folders."""
    sizes: dict[str, int] = {}
    folders = [folder]
    while folders:
        for entry in folders.pop().iterdir():
            status = entry.lstat()
            if stat.S_ISDIR(status.st_mode):
                folders.append(entry)
            elif stat.S_ISREG(status.st_mode):
                sizes[entry.relative_to(folder).as_posix()] = status.st_size
            else:
                return None
    return sizes
