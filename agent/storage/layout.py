"""The fixed folders below a root, the marker that says whose they are, and the lock that keeps a second agent out.

A new root is made in this order, and a crash leaves what the next start completes: `.localmodel`, its lock, `VERSION` (by rename,
durable), the folders. A root that holds manifests but no marker is damaged, not new, and is refused.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.storage.disk import Disk, ensure_folder, open_folder, write_durably
from agent.storage.errors import LayoutUnknown, StoreLocked, StoreUnavailable, describe
from agent.storage.walk import lstat, names, open_beneath

VERSION = 1
PRIVATE = ".localmodel"
TRASH = ".trash"
_OWNER = "localmodel"
_MARKER = "VERSION"
# A marker is some forty bytes; a larger file is none.
_MARKER_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """Descriptors of a root's folders; every name that the store touches is relative to one of them."""

    root: Path
    gid: int | None
    private: int
    marker: int
    lock: int
    models: int
    manifests: int
    staging: int
    retired: int
    trash: int

    @classmethod
    def open(cls, root: Path, *, gid: int | None, expect: bool, disk: Disk) -> "Layout":
        """Creates what is missing. `expect`: copies are known to be here, so a root without a marker is a missing mount."""
        with contextlib.ExitStack() as opened:

            def keep(fd: int) -> int:
                opened.callback(os.close, fd)
                return fd

            try:
                layout = _open(root, gid, expect, disk, keep)
            except OSError as exc:
                raise StoreUnavailable(f"cannot use {root}: {describe(exc)}") from exc
            opened.pop_all()
            return layout

    def close(self) -> None:
        """Releases the lock."""
        for fd in (
            self.models,
            self.manifests,
            self.staging,
            self.retired,
            self.trash,
            self.marker,
            self.lock,
            self.private,
        ):
            os.close(fd)

    def check(self) -> None:
        """Raises `StoreUnavailable` unless the marker at the root is the one that was opened, on a writable file system."""
        try:
            there = os.stat(self.root / PRIVATE / _MARKER, follow_symlinks=False)
            models = os.stat(self.root / "models")
            disk = os.fstatvfs(self.private)
        except OSError as exc:
            raise StoreUnavailable(
                f"{self.root} has lost its marker: {describe(exc)}; is the disk mounted?"
            ) from exc
        if not os.path.samestat(there, os.fstat(self.marker)) or not os.path.samestat(
            models, os.fstat(self.models)
        ):
            raise StoreUnavailable(f"{self.root} is not the folder it was when the store opened")
        if disk.f_flag & os.ST_RDONLY:
            raise StoreUnavailable(f"{self.root} is mounted read-only")


def _open(
    root: Path, gid: int | None, expect: bool, disk: Disk, keep: Callable[[int], int]
) -> Layout:
    if not expect:
        root.mkdir(parents=True, exist_ok=True)
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if expect and lstat(top, PRIVATE) is None:
            raise _missing(root, "copies are known to be there")
        private = keep(ensure_folder(disk, top, PRIVATE, gid))
        known = has_marker(root, private)
        if not known:
            if expect:
                raise _missing(root, "copies are known to be there")
            if has_manifests(private):
                raise _missing(root, "manifests are there")
        lock = keep(_locked(root, private))
        if not has_marker(root, private):
            content = json.dumps({"owner": _OWNER, "layout": VERSION}) + "\n"
            write_durably(disk, private, _MARKER, [content.encode()])
        marker = keep(open_beneath(private, _MARKER, os.O_RDONLY))
        models = keep(ensure_folder(disk, top, "models", gid))
        manifests, staging, retired = (
            keep(ensure_folder(disk, private, name, gid))
            for name in ("manifests", "staging", "retired")
        )
        trash = keep(ensure_folder(disk, retired, TRASH, gid))
        for folder in (retired, private, top):
            disk.sync(folder)
    finally:
        os.close(top)
    return Layout(
        root=root,
        gid=gid,
        private=private,
        marker=marker,
        lock=lock,
        models=models,
        manifests=manifests,
        staging=staging,
        retired=retired,
        trash=trash,
    )


def _missing(root: Path, though: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"{root} holds no {PRIVATE}/{_MARKER} though {though}; is the disk mounted?"
    )


def has_marker(root: Path, private: int) -> bool:
    """Whether the marker is there; raises `LayoutUnknown` when it is not one of ours, or too new."""
    try:
        fd = open_beneath(private, _MARKER, os.O_RDONLY)
    except FileNotFoundError:
        return False
    with open(fd, "rb") as file:
        content = file.read(_MARKER_LIMIT)
    try:
        fields = json.loads(content)
        owner, layout = fields["owner"], int(fields["layout"])
    except (KeyError, TypeError, ValueError) as exc:
        raise LayoutUnknown(f"{root}/{PRIVATE}/{_MARKER} is not a marker of this program") from exc
    if owner != _OWNER:
        raise LayoutUnknown(f"{root} belongs to {str(owner)[:100]!r}")
    if layout != VERSION:
        raise LayoutUnknown(
            f"{root} has layout {layout}, this version knows {VERSION}; run the version that made it"
        )
    return True


def _locked(root: Path, private: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open("lock", flags, 0o644, dir_fd=private)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(fd)
        raise StoreLocked(f"{root} is in use by another agent") from exc
    except OSError:
        os.close(fd)
        raise
    return fd


def has_manifests(private: int) -> bool:
    """Whether copies are known to be here, marker or not."""
    try:
        fd = open_folder(private, "manifests")
    except FileNotFoundError:
        return False
    try:
        return bool(names(fd))
    finally:
        os.close(fd)
