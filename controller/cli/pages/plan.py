"""`plan`: what a cache would do on each node, before a byte moves. Pure; the planner is the controller's own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.cli.pages.text import Cell, Line, Span, Style, counted, line, size, some, table
from shared.domain.forecast import NEWEST, Forecast, Verdict, forecast, real_sizes
from shared.domain.placement import belongs, place, room, wants
from shared.domain.reasons import Reason
from shared.domain.views import CacheView, GroupView, NodeView, WorkView

# More nodes than this are shown together where they say the same.
SINGLE_NODES = 20
NAMED_VICTIMS = 4


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
    """One node. shared: other caches whose folder on this node it uses. go: what would have to go, None when even all would not do."""

    node: str
    group: str
    ready: bool
    verdict: Verdict
    shared: tuple[str, ...] = ()
    reason: Reason | None = None
    message: str = ""
    short: int = 0
    go: tuple[tuple[str, int], ...] | None = ()

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


def plan(cache: CacheView, fleet: Fleet) -> Plan:
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
            victims=len(found) <= SINGLE_NODES or worst.get(one.group) is one,
        )
        for one in found
    )
    missing = tuple(name for name in cache.groups if name not in fleet.groups)
    return Plan(cache, outlooks, missing)


def _short(one: Forecast | None) -> int:
    return one.waiting.short if one is not None and one.waiting is not None else -1


def _outlook(cache: CacheView, one: Forecast, fleet: Fleet, *, victims: bool) -> Outlook:
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
        return Outlook(one.node, one.group, one.ready, one.verdict, sharing)
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
    work, real = fleet.works.get(name), real_sizes(fleet.works.values())
    imagined = replace(
        cache, created=cache.created or NEWEST, finalizers=(cache.finalizer,), deleting=False
    )
    others = [other for other in fleet.caches.values() if other.key != cache.key]
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


def page(found: Plan, *, in_use: frozenset[str] = frozenset()) -> list[Line]:
    """A line per node, or per kind of answer when they are many; then the answer to all."""
    lines: list[Line] = []
    nodes = found.outlooks
    if len(nodes) <= SINGLE_NODES:
        rows = [[one.node, *_cells(one, found.cache, in_use)] for one in sorted(nodes, key=_order)]
        lines += table(("NODE", "GROUP", "ANSWER", "WHY"), rows)
    else:
        groups: dict[tuple[object, ...], list[Outlook]] = {}
        for one in sorted(nodes, key=_order):
            groups.setdefault(
                (one.group, one.verdict, one.ready, one.shared, one.reason), []
            ).append(one)
        rows = []
        for each in groups.values():
            worst = max(each, key=lambda one: (one.short, one.go != ()))
            rows.append(
                [f"{len(each):,}", *_cells(worst, found.cache, in_use), some(o.node for o in each)]
            )
        lines += table(("NODES", "GROUP", "ANSWER", "WHY", "WHICH"), rows)
    if lines:
        lines.append(line(""))
    return [*lines, _answer(found)]


def _order(one: Outlook) -> tuple[bool, int, str]:
    return one.fits, -one.short, one.node


def _cells(one: Outlook, cache: CacheView, in_use: frozenset[str]) -> list[Cell]:
    late = "" if one.ready else "; the node is not Ready"
    with_others = some(one.shared)
    if one.verdict is Verdict.PRESENT:
        why = f"with {with_others}" if one.shared else ""
        return [one.group, Span("already there", Style.GOOD), why + late]
    if one.verdict is Verdict.FITS:
        why = f"shares {size(cache.size)} with {with_others}" if one.shared else ""
        return [one.group, Span("fits", Style.GOOD), why + late]
    if one.reason is not Reason.NO_SPACE:
        return [one.group, Span(str(one.reason), Style.BAD), one.message + late]
    return [one.group, Span(f"short by {size(one.short)}", Style.BAD), _go(one, in_use) + late]


def _go(one: Outlook, in_use: frozenset[str]) -> str:
    if one.go is None:
        return f"{one.message}; too large even if everything else went"
    if not one.go:
        return one.message
    named = [
        f"{key} ({size(count)}{', in use' if key in in_use else ''})"
        for key, count in one.go[:NAMED_VICTIMS]
    ]
    more = len(one.go) - NAMED_VICTIMS
    return f"{one.message}; would have to go: {', '.join(named)}" + (
        f" and {more} more" if more > 0 else ""
    )


def _answer(found: Plan) -> Line:
    cache, nodes = found.cache, found.outlooks
    what = f"{cache.key} ({size(cache.size)})"
    if found.missing_groups:
        text = f"{what} cannot be placed: node group {some(found.missing_groups)} does not exist."
        return line(Span(text, Style.BAD))
    if not nodes:
        text = f"{what} would be on no node: none belongs to node group {some(cache.groups)}."
        return line(Span(text, Style.BAD))
    lacking = [one for one in nodes if not one.fits]
    if lacking:
        text = f"{what} does not fit on {len(lacking):,} of {counted(len(nodes), 'node')}."
        return line(Span(text, Style.BAD))
    there = sum(one.verdict is Verdict.PRESENT for one in nodes)
    fetch = sum(one.verdict is Verdict.FITS and not one.shared for one in nodes)
    traffic = f", {size(fetch * cache.size)} to fetch in all" if fetch else ", nothing to fetch"
    held = f" ({there:,} hold it already)" if there else ""
    return line(Span(f"{what} fits on {counted(len(nodes), 'node')}{held}{traffic}.", Style.GOOD))


def as_data(found: Plan) -> dict[str, Any]:
    return {
        "cache": found.cache.key,
        "bytes": found.cache.size,
        "fits": found.fits,
        "missingNodeGroups": list(found.missing_groups),
        "nodes": [_data(one) for one in sorted(found.outlooks, key=_order)],
    }


def _data(one: Outlook) -> dict[str, Any]:
    answer: dict[str, Any] = {"node": one.node, "nodeGroup": one.group, "nodeReady": one.ready}
    answer |= {"answer": one.verdict.value, "sharedWith": list(one.shared)}
    if not one.fits:
        answer |= {"reason": str(one.reason), "message": one.message, "bytesShort": one.short}
        answer["wouldHaveToGo"] = None if one.go is None else [key for key, _ in one.go]
    return answer


def with_size(view: CacheView, measured: int | None) -> CacheView:
    """The larger of what it declares and what its source holds counts, as it will once agents have looked."""
    return view if measured is None else replace(view, size=max(view.size, measured))


def unseen(names: Sequence[str]) -> Line:
    """A remark about what could not be read."""
    return line(
        Span(f"Not counted, because you may not list them: {', '.join(names)}.", Style.WARN)
    )
