"""The control groups that nodes put their pods in, in either version of the kernel's interface."""

import contextlib
from pathlib import Path

from tests.support.nodes.configuration import CGROUPS

_MOUNT = Path("/sys/fs/cgroup")


def prepare(node: str) -> None:
    """Make the node's group in every hierarchy; a new cpuset has no processors or memory before it is given its parent's."""
    for hierarchy in _hierarchies():
        group = hierarchy
        for name in (CGROUPS, node):
            parent, group = group, group / name
            group.mkdir(exist_ok=True)
            for file in ("cpuset.cpus", "cpuset.mems"):
                # Version 2 inherits them.
                if hierarchy != _MOUNT and (group / file).exists():
                    (group / file).write_text((parent / file).read_text())


def remove(node: str | None = None) -> None:
    """The node's groups, or those of all nodes; groups that still hold processes stay."""
    for hierarchy in _hierarchies():
        top = hierarchy / CGROUPS / (node or "")
        if not top.exists():
            continue
        folders = [path for path in top.rglob("*") if path.is_dir()]
        for folder in [*sorted(folders, key=lambda path: len(path.parts), reverse=True), top]:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _hierarchies() -> list[Path]:
    if (_MOUNT / "cgroup.controllers").exists():
        return [_MOUNT]
    return [path for path in sorted(_MOUNT.iterdir()) if path.is_dir() and not path.is_symlink()]
