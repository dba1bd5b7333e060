"""The control groups of the tests' real nodes, on a tree of files as each version of the kernel's interface shows it."""

import errno
import os
from pathlib import Path

import pytest

from tests.support.nodes import cgroups
from tests.support.nodes.configuration import CGROUPS

HAS = "cpuset cpu io memory hugetlb pids rdma misc"
WANTED = {"+cpu", "+cpuset", "+hugetlb", "+memory", "+pids"}


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """Version 2."""
    (tmp_path / "cgroup.controllers").write_text(f"{HAS}\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    return tmp_path


def handed_down(group: Path) -> set[str]:
    return set((group / "cgroup.subtree_control").read_text().split())


def test_in_version_2_a_nodes_group_has_what_the_kubelet_asks_for(second: Path) -> None:
    cgroups.prepare("node-a", mount=second)
    assert (second / CGROUPS / "node-a").is_dir()
    for group in (second, second / CGROUPS):
        assert handed_down(group) == WANTED


def test_in_version_2_controllers_that_the_machine_lacks_are_not_asked_for(second: Path) -> None:
    (second / "cgroup.controllers").write_text("cpu memory pids\n")
    cgroups.prepare("node-a", mount=second)
    assert handed_down(second) == {"+cpu", "+memory", "+pids"}


def test_a_group_that_holds_processes_says_how_to_move_them(
    second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(path: Path, _: str) -> int:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))

    monkeypatch.setattr(Path, "write_text", busy)
    with pytest.raises(RuntimeError, match="holds processes") as raised:
        cgroups.prepare("node-a", mount=second)
    assert f"{second}/here/cgroup.procs" in str(raised.value)


def test_in_version_1_every_hierarchy_has_the_group_and_its_cpuset_is_the_parents(
    tmp_path: Path,
) -> None:
    for name in ("memory", "cpuset"):
        (tmp_path / name).mkdir()
    groups = [tmp_path / "cpuset" / path for path in ("", CGROUPS, f"{CGROUPS}/node-a")]
    for group, cpus in zip(groups, ("0-1", "", ""), strict=True):
        group.mkdir(exist_ok=True)
        (group / "cpuset.cpus").write_text(cpus)
        (group / "cpuset.mems").write_text("0")
    cgroups.prepare("node-a", mount=tmp_path)
    assert (tmp_path / "memory" / CGROUPS / "node-a").is_dir()
    assert (groups[-1] / "cpuset.cpus").read_text() == "0-1"
    assert not list(tmp_path.rglob("cgroup.subtree_control"))
