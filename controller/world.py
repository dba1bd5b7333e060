"""The world as the informers last saw it, with the indices that keep every pass cheap.

Read-only for planners and valid within one synchronous pass; only `controller.routes` changes it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from controller.bearing import on_bytes
from controller.holdings import Holdings
from controller.serving import Serving
from shared.domain.parse import entry
from shared.domain.placement import Placement, belongs
from shared.domain.reasons import Reason
from shared.domain.views import CacheView, Entry, GroupView, NodeView, WorkView

ANY_KEY = ""  # in `_unanswered`: seen for the first time while the agent was behind, so every copy may have changed


@dataclass(slots=True)
class World:
    caches: dict[str, CacheView] = field(default_factory=dict)
    groups: dict[str, GroupView] = field(default_factory=dict)
    nodes: dict[str, NodeView] = field(default_factory=dict)
    works: dict[str, WorkView] = field(default_factory=dict)
    placements: dict[str, Placement] = field(default_factory=dict)
    """What the last pass decided, by node."""
    silent: set[str] = field(default_factory=set)
    """Nodes whose agent has given no sign of life for so long that its word counts no more."""
    abandoned: set[str] = field(default_factory=set)
    """Nodes whose agent has been silent for so long that deletions no longer wait for it."""

    unasked: set[str] = field(default_factory=set)
    """Nodes that no group wants and whose agent lives and was never asked what it holds: perhaps copies of another time."""

    groups_of: dict[str, frozenset[str]] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    naming: dict[str, set[str]] = field(default_factory=dict)
    """Keys of the caches that name a group, whether it exists or not."""
    sharing: dict[str, set[str]] = field(default_factory=dict)
    """Keys of the caches with one storage key."""
    holdings: Holdings = field(default_factory=Holdings)
    sizes: dict[str, int] = field(default_factory=dict)
    """Largest size in bytes that any agent found for each cache."""
    departed: dict[str, set[str]] = field(default_factory=dict)
    """Nodes that left the cluster with a copy of a cache whose deletion waited for them, by its key."""
    serving: Serving = field(default_factory=Serving)
    problem: tuple[Reason, str] | None = None
    """What is wrong with KServe's configuration."""
    _asked: set[str] = field(default_factory=set)
    _unanswered: dict[str, dict[str, int]] = field(default_factory=dict)
    _lines: dict[tuple[str, str, str | None], tuple[Mapping[str, object], Entry]] = field(
        default_factory=dict
    )

    def put_cache(self, key: str, new: CacheView | None) -> None:
        old = self.caches.pop(key, None)
        if old is not None:
            for group in old.groups:
                _discard(self.naming, group, key)
            _discard(self.sharing, old.storage_key, key)
        if new is None:
            self.sizes.pop(key, None)
            self.departed.pop(key, None)
            for line in [line for line in self._lines if line[0] == key]:
                del self._lines[line]
            return
        self.caches[key] = new
        if old is None or old.storage_key != new.storage_key:
            self._measure(new)
        for group in new.groups:
            self.naming.setdefault(group, set()).add(key)
        self.sharing.setdefault(new.storage_key, set()).add(key)

    def put_group(self, name: str, new: GroupView | None) -> None:
        if new is None:
            self.groups.pop(name, None)
        else:
            self.groups[name] = new
        before = self.members.pop(name, set())
        after = {node.name for node in self.nodes.values() if new and belongs(node, new)}
        if after:
            self.members[name] = after
        for node in before ^ after:
            groups = self.groups_of.pop(node, frozenset()) ^ {name}
            if groups:
                self.groups_of[node] = groups

    def put_node(self, name: str, new: NodeView | None) -> None:
        was = self.nodes.get(name)
        if was is None or new is None or was.uid != new.uid:
            self._asked.discard(name)
            self.unasked.discard(name)
            if was is not None:
                self._depart(name)
        if name in self.works:
            self._asked.add(name)
        if new is None:
            self.nodes.pop(name, None)
            self.placements.pop(name, None)
        else:
            self.nodes[name] = new
        before = self.groups_of.pop(name, frozenset())
        after = frozenset(
            group.name for group in self.groups.values() if new and belongs(new, group)
        )
        if after:
            self.groups_of[name] = after
        for group in before - after:
            _discard(self.members, group, name)
        for group in after - before:
            self.members.setdefault(group, set()).add(name)

    def put_work(self, name: str, new: WorkView | None) -> None:
        old = self.works.pop(name, None)
        if new is not None:
            self.works[name] = new
            self.unasked.discard(name)
            self._asked.add(name)
        self._track_answers(name, old, new)
        for key in self.holdings.move(name, old, new):
            if key in self.caches:
                self._measure(self.caches[key])

    def to_ask(self, living: Iterable[str]) -> set[str]:
        """Of the nodes whose agents live, those that have no work list, and had none since they joined the cluster."""
        return {
            name
            for name in living
            if name in self.nodes
            and name not in self.groups_of
            and name not in self.works
            and name not in self._asked
        }

    def concerned(self, key: str) -> set[str]:
        """Nodes that have the cache on their list, report on it, or have yet to answer for it."""
        found = {*self.holdings.listing(key), *self.holdings.reporting(key)}
        return found | {name for name in self._unanswered if not self.answered(name, key)}

    def answered(self, node: str, key: str) -> bool:
        """Whether the node's agent has seen the latest change of this copy's line."""
        work = self.works.get(node)
        if work is None or work.observed is None:  # KServe's agent does not say; its word is taken
            return True
        behind = self._unanswered.get(node)
        return behind is None or (key not in behind and ANY_KEY not in behind)

    def unanswered(self, node: str) -> frozenset[str]:
        return frozenset(self._unanswered.get(node, ()))

    def awaits_answers(self, group: str) -> bool:
        """Whether a living agent of the group has not yet answered to its list; KServe's does not say when it has."""
        living = self.members.get(group, set()) - self.silent
        works = (self.works[name] for name in self._unanswered.keys() & living)
        return any(work.observed is not None or not work.reports for work in works)

    def caches_on(self, node: str) -> Iterator[CacheView]:
        """Caches that name a group of the node."""
        groups = self.groups_of.get(node, frozenset())
        keys = {key for group in groups for key in self.naming.get(group, ())}
        return (self.caches[key] for key in keys)

    def expected(self, cache: CacheView) -> dict[str, str]:
        """Nodes that should hold the cache, each with the group through which it was chosen."""
        found: dict[str, str] = {}
        for group in cache.groups:
            for node in self.members.get(group, ()):
                found.setdefault(node, group)
        return found

    def line(self, cache: CacheView, group: str) -> Entry:
        """The cache's line in the work lists of that group's nodes."""
        revision = self.revision(cache)
        key = (cache.key, group, revision)
        known = self._lines.get(key)
        if known is None or known[0] is not cache.wire:
            known = (cache.wire, entry({**cache.wire, "nodeGroup": group, "revision": revision}))
            self._lines[key] = known
        return known[1]

    def revision(self, cache: CacheView) -> str | None:
        """What all nodes should hold: as its status says, else as the oldest cache of the same folder does."""
        if cache.revision is not None:
            return cache.revision
        siblings = [self.caches[key] for key in self.sharing.get(cache.storage_key, ())]
        pinned = [(s.created, s.key, s.revision) for s in siblings if s.revision is not None]
        return min(pinned)[2] if pinned else None

    def _track_answers(self, name: str, old: WorkView | None, new: WorkView | None) -> None:
        """A copy counts as there, or as gone, only once the agent has seen what was last asked of it."""
        if new is None:
            self._unanswered.pop(name, None)
            return
        behind = self._unanswered.get(name, {})
        if old is None or old.uid != new.uid:
            behind = {ANY_KEY: new.generation}
        elif old.entries != new.entries:
            changed = _changed_copies(old, new)
            behind = {**behind, **dict.fromkeys(changed, new.generation)}
        behind = {key: since for key, since in behind.items() if since > (new.observed or 0)}
        if behind:
            self._unanswered[name] = behind
        else:
            self._unanswered.pop(name, None)

    def _depart(self, name: str) -> None:
        work = self.works.get(name)
        lines = {line.key for line in work.entries} if work else set[str]()
        for key in lines.union(work.reports if work else ()):
            cache = self.caches.get(key)
            if cache is not None and cache.deleting:
                self.departed.setdefault(key, set()).add(name)

    def _measure(self, cache: CacheView) -> None:
        size = self.holdings.largest(cache.key, cache.storage_key)
        if size is None:
            self.sizes.pop(cache.key, None)
        else:
            self.sizes[cache.key] = size


def _changed_copies(old: WorkView, new: WorkView) -> set[str]:
    """Keys whose lines now ask for other bytes; naming the revision that the node has anyway does not."""
    before = {line.key: line for line in old.entries}
    after = {line.key: line for line in new.entries}
    changed = set()
    for key in before.keys() | after.keys():
        was, now = before.get(key), after.get(key)
        if was is now:
            continue
        report = new.reports.get(key)
        if (
            was is None
            or now is None
            or on_bytes(was) != on_bytes(now)
            or (was.revision != now.revision and not (report and report.revision == now.revision))
        ):
            changed.add(key)
    return changed


def _discard(index: dict[str, set[str]], key: str, value: str) -> None:
    values = index.get(key)
    if values is not None:
        values.discard(value)
        if not values:
            del index[key]
