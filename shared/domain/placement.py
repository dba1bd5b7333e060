"""Which caches a node holds, and why the others wait. Pure: the controller, the dry run and kubectl's plugin agree.

Order: what is already there stays; then older caches first (creation, then name). A cache that does not fit is passed
over, and placed by itself once space comes free. Caches with one URI share one folder, which counts once on the disk and
once in each group that has it.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from posixpath import normpath

from shared.domain.affinity import matches
from shared.domain.quantity import human_bytes
from shared.domain.reasons import Reason
from shared.domain.views import NOTHING, CacheView, GroupView, NodeView, WorkView

NAMED_HOLDERS = 3  # enough to know whom to ask, short enough for a condition


@dataclass(frozen=True, slots=True)
class Want:
    """A cache that belongs on the node. `present`: the work list has it."""

    key: str
    storage_key: str
    group: str
    size: int
    created: str
    present: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a cache is not placed on the node. `short`: bytes that would have to come free."""

    reason: Reason
    message: str
    short: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """Space on one node in bytes. `held`: by folders (storage keys) that nobody wants any more and that are still there."""

    limits: Mapping[str, int]
    disk: int | None = None
    held: Mapping[str, int] = field(default_factory=dict)
    closed: Mapping[str, Waiting] = field(default_factory=dict)
    """Groups through which nothing new is placed."""


@dataclass(frozen=True, slots=True)
class Placement:
    """`placed`: keys that the node holds, with the group of each. `used`: bytes by group; `total`: bytes on the node."""

    placed: Mapping[str, str]
    waiting: Mapping[str, Waiting]
    used: Mapping[str, int]
    total: int


EMPTY = Placement(NOTHING, NOTHING, NOTHING, 0)


def belongs(node: NodeView, group: GroupView) -> bool:
    """Whether the group takes the node; a group that is being deleted, or whose spec is broken, takes none."""
    return (
        group.selector is not None
        and group.defect is None
        and not group.deleting
        and matches(group.selector, name=node.name, labels=node.labels)
    )


def size_on_disk(cache: CacheView, real: Mapping[str, int]) -> int:
    """The declared size, or the real one when an agent found it larger."""
    return max(cache.size, real.get(cache.key, 0))


def wants(
    caches: Iterable[CacheView],
    groups: Container[str],
    work: WorkView | None,
    real: Mapping[str, int],
    leaving: Container[str] = (),
) -> list[Want]:
    """What belongs on a node of these groups, each cache under its first group there, and what is `leaving` but stays for now."""
    entries = {entry.key: entry for entry in work.entries} if work else {}
    found = [
        Want(
            key=cache.key,
            storage_key=cache.storage_key,
            group=group,
            size=size_on_disk(cache, real),
            created=cache.created,
            present=cache.key in entries,
        )
        for cache in caches
        if cache.wanted and (group := first_group(cache, groups)) is not None
    ]
    placed = {want.key for want in found}
    found += [
        Want(
            key=entry.key,
            storage_key=entry.storage_key,
            group=entry.group or "",
            size=max(entry.size, real.get(entry.key, 0)),
            created="",
            present=True,
        )
        for entry in entries.values()
        if entry.key in leaving and entry.key not in placed
    ]
    return found


def first_group(cache: CacheView, groups: Container[str]) -> str | None:
    return next((group for group in cache.groups if group in groups), None)


def room(groups: Iterable[GroupView], work: WorkView | None, wanted: Iterable[Want]) -> Room:
    """Space on a node of these groups; without a report of its disk the groups' limits alone count."""
    groups = tuple(groups)
    limits = {group.name: group.limit for group in groups}
    if work is None:
        return Room(limits)
    folders = {want.storage_key for want in wanted}
    held: dict[str, int] = {}
    for report in work.reports.values():
        folder = report.storage_key
        if folder is not None and folder not in folders:
            held[folder] = max(held.get(folder, 0), report.bytes_total or report.bytes_done or 0)
    return Room(
        limits=limits,
        disk=work.storage.room if work.storage else None,
        held=held,
        closed={
            group.name: mismatch
            for group in groups
            if (mismatch := path_mismatch(group, work)) is not None
        },
    )


def path_mismatch(group: GroupView, work: WorkView) -> Waiting | None:
    """Pods would mount an empty folder: the group's volumes show another one than the agent fills."""
    if not group.path or not work.host_path or normpath(group.path) == normpath(work.host_path):
        return None
    return Waiting(
        Reason.PATH_MISMATCH,
        f"group {group.name} serves {group.path}, the node's agent fills {work.host_path}",
    )


def place(wanted: Iterable[Want], room: Room) -> Placement:
    """Depends on nothing but its arguments, in any order of `wanted`; never moves what is present."""
    ledger = _Ledger(room)
    placed: dict[str, str] = {}
    left: list[Want] = []
    for want in sorted(wanted, key=lambda w: (not w.present, w.created, w.key)):
        if want.present or (want.group not in room.closed and ledger.lacks(want) is None):
            ledger.take(want)
            placed[want.key] = want.group
        else:
            left.append(want)
    waiting = {}
    for want in left:  # told with all in place: who holds the space at last, not half-way
        finding = room.closed.get(want.group) or ledger.lacks(want)
        if finding is not None:
            waiting[want.key] = finding
    return Placement(placed, waiting, ledger.used, ledger.total)


class _Ledger:
    """Bytes taken so far, by folder, by group and in all. Folders on their way out burden every group: whose they were is forgotten."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._folders: dict[str, int] = dict(room.held)
        self._counted: dict[tuple[str, str], int] = {}
        self._holders: dict[str | None, dict[str, int]] = {}
        """Bytes of each cache by group; under None what it takes of the disk."""
        self._leaving = sum(room.held.values())
        self.used: dict[str, int] = dict.fromkeys(room.limits, self._leaving)
        self.total = self._leaving

    def lacks(self, want: Want) -> Waiting | None:
        need = self._extra_in_group(want)
        limit = self._room.limits.get(want.group, 0)
        used = self.used.get(want.group, self._leaving)
        if need > 0 and used + need > limit:
            where = f"group {want.group} allows {human_bytes(limit)} per node"
            return self._no_space(want.group, need, used, limit, where)
        need, disk = self._extra(want), self._room.disk
        if need > 0 and disk is not None and self.total + need > disk:
            where = f"the node's disk has room for {human_bytes(max(disk, 0))} of models"
            return self._no_space(None, need, self.total, disk, where)
        return None

    def take(self, want: Want) -> None:
        more, folder = self._extra(want), want.storage_key
        self._folders[folder] = self._folders.get(folder, 0) + more
        self.total += more
        self._hold(None, want.key, more)
        more = self._extra_in_group(want)
        place = (want.group, folder)
        self._counted[place] = self._counted.get(place, self._room.held.get(folder, 0)) + more
        self.used[want.group] = self.used.get(want.group, self._leaving) + more
        self._hold(want.group, want.key, more)

    def _hold(self, group: str | None, key: str, more: int) -> None:
        if more:
            self._holders.setdefault(group, {})[key] = more

    def _extra(self, want: Want) -> int:
        return max(0, want.size - self._folders.get(want.storage_key, 0))

    def _extra_in_group(self, want: Want) -> int:
        held = self._room.held.get(want.storage_key, 0)
        return max(0, want.size - self._counted.get((want.group, want.storage_key), held))

    def _no_space(self, group: str | None, need: int, used: int, limit: int, where: str) -> Waiting:
        holders = self._holders.get(group, {})
        ranked = sorted(holders.items(), key=lambda item: (-item[1], item[0]))
        named = [f"{key} ({human_bytes(size)})" for key, size in ranked[:NAMED_HOLDERS]]
        if len(ranked) > NAMED_HOLDERS:
            named.append(f"{len(ranked) - NAMED_HOLDERS} more")
        if self._leaving:
            named.append(f"copies being removed ({human_bytes(self._leaving)})")
        holding = f", {human_bytes(used)} held by {', '.join(named)}" if named else ""
        return Waiting(
            Reason.NO_SPACE,
            f"needs {human_bytes(need)}; {where}{holding}",
            short=used + need - limit,
        )
