"""The control groups that nodes put their pods in, in either version of the kernel's interface."""

import contextlib
import errno
from pathlib import Path

from tests.support.nodes.configuration import CGROUPS

_MOUNT = Path("/sys/fs/cgroup")
# Without one of those that the machine has the kubelet does not start.
_CONTROLLERS = frozenset({"cpu", "cpuset", "hugetlb", "memory", "pids"})


def prepare(node: str, *, mount: Path = _MOUNT) -> None:
    """Make the node's group in every hierarchy, with all that the kubelet wants of it."""
    for hierarchy in _hierarchies(mount):
        parent = hierarchy
        for name in (CGROUPS, node):
            group = parent / name
            group.mkdir(exist_ok=True)
            if hierarchy == mount:
                _hand_down(parent, mount)
            else:
                _copy_cpuset(parent, group)
            parent = group


def remove(node: str | None = None, *, mount: Path = _MOUNT) -> None:
    """The node's groups, or those of all nodes; groups that still hold processes stay."""
    for hierarchy in _hierarchies(mount):
        top = hierarchy / CGROUPS / (node or "")
        if not top.exists():
            continue
        folders = [path for path in top.rglob("*") if path.is_dir()]
        for folder in [*sorted(folders, key=lambda path: len(path.parts), reverse=True), top]:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _hand_down(group: Path, mount: Path) -> None:
    """Version 2: a group has the controllers that its parent hands down."""
    wanted = _CONTROLLERS & set((mount / "cgroup.controllers").read_text().split())
    control = group / "cgroup.subtree_control"
    try:
        control.write_text(" ".join(f"+{name}" for name in sorted(wanted)))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise RuntimeError(
            f"{control}: control groups below a group that holds processes have no controllers, and this one holds some, as in a "
            f"container. Move them: mkdir -p {group}/here; for p in $(cat {group}/cgroup.procs); do echo $p > {group}/here/cgroup.procs; done"
        ) from error


def _copy_cpuset(parent: Path, group: Path) -> None:
    """Version 1: a new cpuset has no processors and no memory before it is given its parent's."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        if (group / file).exists():
            (group / file).write_text((parent / file).read_text())


def _hierarchies(mount: Path) -> list[Path]:
    if (mount / "cgroup.controllers").exists():
        return [mount]
    return [path for path in sorted(mount.iterdir()) if path.is_dir() and not path.is_symlink()]
