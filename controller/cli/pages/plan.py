"""What a cache would do on each node, before a byte moves. Pure; the planner is the controller's own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from shared.api.node import ModelState
from shared.domain.forecast import NEWEST, Forecast, Verdict, forecast, real_sizes
from shared.domain.placement import belongs, place, room, wants
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri
from shared.domain.views import CacheView, GroupView, NodeView, WorkView

# More nodes than this are shown together where they say the same.
SINGLE_NODES = 20
# Each is asked for at its source.
RELATED = 3


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the planner looks at. `in_use`: keys of the caches that services use."""

    nodes: Mapping[str, NodeView]
    groups: Mapping[str, GroupView]
    caches: Mapping[str, CacheView]
    works: Mapping[str, WorkView]
    in_use: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Outlook:
    """One node. shared: other caches whose folder on this node it uses. go: what would have to go, None when even all would not do.

    missing: bytes to fetch there, at most. linked: bytes that other models on the node have, by digest.
    """

    node: str
    group: str
    ready: bool
    verdict: Verdict
    shared: tuple[str, ...] = ()
    reason: Reason | None = None
    message: str = ""
    short: int = 0
    go: tuple[tuple[str, int], ...] | None = ()
    missing: int = 0
    linked: int = 0

    @property
    def fits(self) -> bool:
        return self.verdict is not Verdict.WAITS


@dataclass(frozen=True, slots=True)
class Plan:
    cache: CacheView
    outlooks: tuple[Outlook, ...]
    missing_groups: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """On every node, and there is one."""
        return (
            bool(self.outlooks) and not self.missing_groups and all(o.fits for o in self.outlooks)
        )


@dataclass(frozen=True, slots=True)
class Contents:
    """Bytes of files by digest: the model's own, and those of other caches from which its agent may link them, by key."""

    own: Mapping[str, int]
    others: Mapping[str, Mapping[str, int]]


NOTHING_KNOWN = Contents({}, {})


def plan(cache: CacheView, fleet: Fleet, contents: Contents = NOTHING_KNOWN) -> Plan:
    """cache: with the size that it really has, when that is known."""
    found = forecast(
        cache,
        nodes=fleet.nodes.values(),
        groups=fleet.groups,
        caches=fleet.caches.values(),
        works=fleet.works,
    )
    worst: dict[str, Forecast] = {}  # of many nodes, what would have to go is worked out for these
    for one in found:
        if one.waiting and one.waiting.short > _short(worst.get(one.group)):
            worst[one.group] = one
    outlooks = tuple(
        _outlook(
            cache,
            one,
            fleet,
            contents,
            victims=len(found) <= SINGLE_NODES or worst.get(one.group) is one,
        )
        for one in found
    )
    missing = tuple(name for name in cache.groups if name not in fleet.groups)
    return Plan(cache, outlooks, missing)


def _short(one: Forecast | None) -> int:
    return one.waiting.short if one is not None and one.waiting is not None else -1


def related(cache: CacheView, caches: Iterable[CacheView]) -> list[CacheView]:
    """Other revisions of the same repository, the latest first, which may share files with it: within one domain of trust."""
    repo = _repo(cache)
    found = [
        other
        for other in caches
        if repo is not None
        and _repo(other) == repo
        and other.storage_key != cache.storage_key
        and other.namespace == cache.namespace
    ]
    return sorted(found, key=lambda other: (other.created, other.key), reverse=True)[:RELATED]


def _repo(cache: CacheView) -> str | None:
    try:
        uri = SourceUri.parse(cache.uri)
    except ValueError:
        return None
    return uri.repo if uri.scheme == "hf" else None


def _linked(node: str, fleet: Fleet, contents: Contents) -> int:
    """Bytes of the model's files that complete copies on the node have too."""
    work = fleet.works.get(node)
    there: set[str] = set()
    for key, files in contents.others.items():
        report = work.reports.get(key) if work else None
        if (
            report is not None
            and report.state is ModelState.DOWNLOADED
            and report.storage_key in (None, fleet.caches[key].storage_key)
        ):
            there |= files.keys()
    return sum(size for digest, size in contents.own.items() if digest in there)


def _outlook(
    cache: CacheView, one: Forecast, fleet: Fleet, contents: Contents, *, victims: bool
) -> Outlook:
    sharing: tuple[str, ...] = ()
    work = fleet.works.get(one.node)
    if work is not None:
        sharing = tuple(
            sorted(
                entry.key
                for entry in work.entries
                if entry.storage_key == cache.storage_key and entry.key != cache.key
            )
        )
    if one.waiting is None:
        linked = min(_linked(one.node, fleet, contents), one.missing)
        return Outlook(
            one.node,
            one.group,
            one.ready,
            one.verdict,
            sharing,
            missing=one.missing - linked,
            linked=linked,
        )
    lacks = one.waiting.reason is Reason.NO_SPACE
    return Outlook(
        node=one.node,
        group=one.group,
        ready=one.ready,
        verdict=one.verdict,
        shared=sharing,
        reason=one.waiting.reason,
        message=one.waiting.message,
        short=one.waiting.short,
        go=must_go(cache, one.node, fleet) if lacks and victims else (),
    )


def must_go(cache: CacheView, name: str, fleet: Fleet) -> tuple[tuple[str, int], ...] | None:
    """A smallest set of caches without which it would be placed on the node, unused and large ones first; None when there is none.

    What is being removed anyway counts as there, and caches that wait for space longer get it first.
    """
    here = {g.name: g for g in fleet.groups.values() if belongs(fleet.nodes[name], g)}
    work = fleet.works.get(name)
    imagined = replace(
        cache, created=cache.created or NEWEST, finalizers=(cache.finalizer,), deleting=False
    )
    others = [other for other in fleet.caches.values() if other.key != cache.key]
    real = real_sizes(fleet.works.values(), [*others, imagined])
    wanted = wants([*others, imagined], here, work, real)
    space = room(here.values(), work, wanted)

    def fits(gone: Iterable[str]) -> bool:
        out = set(gone)
        return cache.key in place([w for w in wanted if w.key not in out], space).placed

    there = place(wanted, space).placed
    candidates = sorted(
        (w for w in wanted if w.key in there and w.key != cache.key),
        key=lambda w: (w.key in fleet.in_use, -w.size, w.key),
    )
    gone: list[str] = []
    for want in candidates:
        if fits(gone):
            break
        gone.append(want.key)
    if not fits(gone):
        return None
    for key in list(gone):  # what turned out not to be needed may stay
        if fits(rest := [other for other in gone if other != key]):
            gone = rest
    sizes = {want.key: want.size for want in wanted}
    return tuple((key, sizes[key]) for key in gone)


def with_size(view: CacheView, measured: int | None) -> CacheView:
    """The larger of what it declares and what its source holds counts, as it will once agents have looked."""
    return view if measured is None else replace(view, size=max(view.size, measured))
