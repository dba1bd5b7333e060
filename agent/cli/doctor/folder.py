"""The cache folder: whose it is, on what it is, how much room and how fast."""

import os
import stat
from pathlib import Path
from typing import Final

from agent.cli.doctor.finding import Finding, Tell, bounded, fail, ok, warn
from agent.cli.doctor.mounts import holder, mount_of
from agent.cli.doctor.speed import measured
from agent.planning.admission import kept_free
from agent.storage.disk import opened_folder
from agent.storage.errors import StoreError, describe
from agent.storage.layout import PRIVATE, has_manifests, has_marker
from shared.domain.quantity import human_bytes
from shared.domain.storage_key import is_storage_key

_SECONDS: Final = 10.0
# As the alert LocalModelDiskNearlyFull has it.
_NEARLY_FULL: Final = 0.1
# A model of a few files with its journals, manifest and folders.
_FEW_INODES: Final = 1000
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_OF_A_CONTAINER: Final = frozenset({"overlay", "aufs"})
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.s3fs", "fuse.gcsfuse"})  # fmt: skip


def look(root: Path, *, gid: int | None, min_free_percent: float, tell: Tell) -> int | None:
    """Bytes that models may still take; None when the disk cannot be asked. gid: of the published files, None = any."""
    usable: list[int] = []

    def checked(check: str, finding: Finding) -> bool:
        tell(finding)
        return finding.level.value != "fail"

    nearest: list[Path] = []
    folder = bounded("folder", lambda: _folder(root, nearest), seconds=_SECONDS)
    if not checked("folder", folder):
        return None
    here = nearest[0]
    writable = checked(
        "permissions",
        bounded("permissions", lambda: _permissions(root, here, gid), seconds=_SECONDS),
    )
    tell(bounded("disk", lambda: _disk(here), seconds=_SECONDS))
    space = bounded("space", lambda: _space(here, min_free_percent, usable), seconds=_SECONDS)
    tell(space)
    if writable and usable and here == root:
        tell(bounded("speed", lambda: measured(root, usable[0]), seconds=_SECONDS * 3))
    return usable[0] if usable else None


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _folder(root: Path, nearest: list[Path]) -> Finding:
    """nearest: gets the folder that is there."""
    try:
        here = existing(root)
    except PermissionError:
        return fail("folder", f"{root} cannot be reached by user {os.geteuid()}", "Let that user enter the folders above it (`chmod o+x`), or run as their owner.")  # fmt: skip
    nearest.append(here)
    if here != root:
        return warn(
            "folder",
            f"{root} is not there",
            "It is made at the first use. On a node: is the disk mounted, and the path right?",
        )
    if not root.is_dir():
        return fail("folder", f"{root} is not a folder", "Name a folder with --root.")
    try:
        with opened_folder(root / PRIVATE) as private:
            marked, manifests = has_marker(root, private), has_manifests(private)
    except FileNotFoundError:
        marked = manifests = False
    except StoreError as error:
        return fail("folder", error.message, "Use the version that made it, or another folder.")
    except OSError as error:
        return fail("folder", f"{root / PRIVATE}: {describe(error)}", "Give the folder to the user that runs the agent.")  # fmt: skip
    if marked:
        user = holder(root / PRIVATE / "lock")
        return ok("folder", f"{root} is a cache of layout 1, {f'in use by {user}' if user else 'nobody is seen to use it'}")  # fmt: skip
    trees = _trees(root)
    if manifests or trees:
        what = "manifests" if manifests else f"{trees} models"
        return (fail if manifests else warn)(
            "folder",
            f"{root} holds {what} but not the marker {PRIVATE}/VERSION",
            "Is the right disk mounted? An agent refuses a folder that lost its marker; models without manifests it adopts when they are as their source has them.",
        )
    return ok("folder", f"{root} is there and not used yet")


def _trees(root: Path) -> int:
    try:
        return sum(is_storage_key(path.name) for path in (root / "models").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _permissions(root: Path, here: Path, gid: int | None) -> Finding:
    me = f"user {os.geteuid()}"
    folders = [path for path in (root, root / PRIVATE, root / "models") if path.is_dir()] or [here]
    for path in folders:
        found = path.stat()
        whose = f"{path} is {found.st_uid}:{found.st_gid} {stat.filemode(found.st_mode)}"
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return fail(
                "permissions",
                f"{path} is on a file system that is mounted read-only",
                "Mount it for writing; when the kernel did it by itself, look at `dmesg`: the disk may have faults.",
            )
        if not os.access(path, os.W_OK | os.X_OK | os.R_OK, effective_ids=True):
            return fail(
                "permissions",
                f"{whose}; {me} may not write there",
                f"`chown {os.geteuid()}:{found.st_gid if gid is None else gid} {path}` on the node, or run as its owner.",
            )
    models = root / "models"
    if models.is_dir():
        found = models.stat()
        if gid is not None and found.st_gid != gid:
            return warn(
                "permissions",
                f"{models} has group {found.st_gid}, the setting gid is {gid}",
                f"`chgrp {gid} {models}` on the node, so that pods of that group may read what comes.",
            )
        if not found.st_mode & stat.S_ISGID:
            return warn(
                "permissions",
                f"{models} is not setgid, so new folders get the group of their maker",
                f"`chmod g+s {models}` on the node.",
            )
    found = folders[0].stat()
    return ok("permissions", f"{me} may write; {folders[0]} is {found.st_uid}:{found.st_gid} {stat.filemode(found.st_mode)}")  # fmt: skip


def _disk(here: Path) -> Finding:
    mount = mount_of(here)
    if mount is None:
        return ok("disk", "the kernel does not say what is mounted")
    found = f"{mount.kind} of {mount.device}, mounted at {mount.point}"
    if mount.kind in _IN_MEMORY:
        return warn("disk", found, "It is memory: models count against it and are gone after a restart. Use a disk.")  # fmt: skip
    if mount.kind in _OF_A_CONTAINER:
        return warn("disk", found, "It is a container's own layer, gone with the container. Mount a folder of the node.")  # fmt: skip
    if mount.kind in _REMOTE:
        return warn("disk", found, "It is not this machine's: renames, locks and speed depend on a server. Use a local disk.")  # fmt: skip
    return ok("disk", found)


def _space(here: Path, min_free_percent: float, usable: list[int]) -> Finding:
    disk = os.statvfs(here)
    capacity, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    kept = kept_free(capacity, min_free_percent)
    usable.append(max(free - kept, 0))
    inodes = disk.f_favail if disk.f_files else None
    found = f"{human_bytes(free)} of {human_bytes(capacity)} free, {human_bytes(kept)} stay free"
    if inodes is not None:
        found += f", {inodes} inodes"
    if not usable[0]:
        return fail("space", found, "Nothing can be fetched. Delete what nobody needs, use a larger disk, or lower `min_free_percent`.")  # fmt: skip
    if inodes == 0:
        return fail("space", found, "No file can be made. Delete small files, or make the file system with more inodes.")  # fmt: skip
    if free < capacity * _NEARLY_FULL or (inodes is not None and inodes < _FEW_INODES):
        return warn("space", found, "The disk is nearly full: delete what nobody needs, or use a larger one.")  # fmt: skip
    return ok("space", found)
