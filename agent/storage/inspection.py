"""Comparing trees with their manifests. Owner, group and mode are the cluster's business and never count as damage."""

import errno
import os
import stat
from dataclasses import dataclass

from agent.storage.disk import open_folder
from agent.storage.footprint import Footprint, measure
from agent.storage.tree import Tree, TreeFile
from agent.storage.walk import Entry, open_beneath, walk

# Failures of the agent itself, which say nothing about the file.
OWN_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class Inspection:
    """damaged: the manifest's files that are missing or changed. extra: files that it does not name."""

    damaged: tuple[str, ...]
    extra: tuple[str, ...]
    footprint: Footprint


def inspect(models: int, tree: Tree) -> Inspection:
    """By `lstat`: type, size, modification time. Reads no content; raises `OSError`."""
    try:
        root = open_folder(models, tree.storage_key)
    except (FileNotFoundError, NotADirectoryError):
        return Inspection(tuple(file.path for file in tree.files), (), Footprint())
    try:
        entries = list(walk(root))
        here = Entry("", os.fstat(root))
    finally:
        os.close(root)
    found = {entry.path: entry.stat for entry in entries if not entry.is_folder}
    damaged = []
    for file in tree.files:
        there = found.pop(file.path, None)
        if there is None or not is_good(file, there):
            damaged.append(file.path)
    return Inspection(tuple(sorted(damaged)), tuple(sorted(found)), measure([here, *entries]))


def is_good(file: TreeFile, found: os.stat_result) -> bool:
    """Nothing about the file says that its content changed since it was published."""
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_size == file.size
        and found.st_mtime_ns == file.mtime_ns
    )


def intact(models: int, tree: Tree) -> bool:
    """Whether at least one of the tree's files is as it was published."""
    gone = inspect(models, tree).damaged
    return len(gone) < len(tree.files)


def open_good(root: int, file: TreeFile) -> int | None:
    """A descriptor of a file that is as published, else None; no link on the way is followed."""
    try:
        fd = open_beneath(root, file.path, os.O_RDONLY)
    except OSError as exc:
        if exc.errno in OWN_TROUBLE:
            raise
        return None
    if is_good(file, os.fstat(fd)):
        return fd
    os.close(fd)
    return None
