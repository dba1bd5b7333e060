"""What would happen if: the placement of a cache that does not exist yet, or whose spec would change. Pure."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from shared.api.node import ModelState
from shared.domain.patterns import Selection, Selections
from shared.domain.placement import Waiting, belongs, first_group, place, room, wants
from shared.domain.views import CacheView, Entry, GroupView, NodeView, WorkView

NEWEST = "9999-12-31T23:59:59Z"  # a cache that does not exist yet is younger than all others


class Verdict(StrEnum):
    FITS = "fits"
    PRESENT = "already there"
    WAITS = "waits"


@dataclass(frozen=True, slots=True)
class Forecast:
    """One node's answer. `waiting` says why not, with the bytes that are short. `missing`: bytes to fetch there, at most."""

    node: str
    group: str
    ready: bool
    verdict: Verdict
    waiting: Waiting | None = None
    missing: int = 0


def real_sizes(works: Iterable[WorkView], caches: Iterable[CacheView]) -> dict[str, int]:
    """Largest size in bytes that any agent found for each cache; what it says of another URI, which the cache had before, is left out."""
    folders = {cache.key: cache.storage_key for cache in caches}
    sizes: dict[str, int] = {}
    for work in works:
        for key, report in work.reports.items():
            if report.bytes_total is not None and report.storage_key in (None, folders.get(key)):
                sizes[key] = max(sizes.get(key, 0), report.bytes_total)
    return sizes


def forecast(
    cache: CacheView,
    *,
    nodes: Iterable[NodeView],
    groups: Mapping[str, GroupView],
    caches: Iterable[CacheView],
    works: Mapping[str, WorkView],
) -> tuple[Forecast, ...]:
    """Node by node, sorted: does it fit, is it there already, or how much is short. Nothing is changed."""
    imagined = replace(
        cache,
        created=cache.created or NEWEST,
        finalizers=(cache.finalizer,),
        deleting=False,
    )
    others = [other for other in caches if other.key != cache.key]
    real = real_sizes(works.values(), [*others, imagined])
    found = []
    for node in sorted(nodes, key=lambda n: n.name):
        here = {name: group for name, group in groups.items() if belongs(node, group)}
        group = first_group(imagined, here)
        if group is None:
            continue
        work = works.get(node.name)
        wanted = wants([*others, imagined], here, work, real)
        placement = place(wanted, room(here.values(), work, wanted))
        waiting = placement.waiting.get(imagined.key)
        if waiting is not None:
            found.append(Forecast(node.name, group, node.ready, Verdict.WAITS, waiting))
        else:
            verdict, missing = _what_is_there(imagined, work)
            found.append(Forecast(node.name, group, node.ready, verdict, missing=missing))
    return tuple(found)


def waiting(
    keys: Container[str],
    *,
    nodes: Iterable[NodeView],
    groups: Mapping[str, GroupView],
    caches: Iterable[CacheView],
    works: Mapping[str, WorkView],
) -> dict[str, dict[str, Waiting]]:
    """Why each of these caches is not placed, by cache and node: one pass over the nodes for all of them."""
    caches = tuple(caches)
    real = real_sizes(works.values(), caches)
    found: dict[str, dict[str, Waiting]] = {}
    for node in nodes:
        here = {name: group for name, group in groups.items() if belongs(node, group)}
        work = works.get(node.name)
        wanted = wants(caches, here, work, real) if here else []
        for key, why in place(wanted, room(here.values(), work, wanted)).waiting.items():
            if key in keys:
                found.setdefault(key, {})[node.name] = why
    return found


def _what_is_there(cache: CacheView, work: WorkView | None) -> tuple[Verdict, int]:
    """With the bytes that are missing at most: of another selection of the same files it is not known which are there."""
    sharing = [e for e in work.entries if e.storage_key == cache.storage_key] if work else []
    wish = _selection(cache.wire)
    if work is not None and _covers((e.wire for e in sharing if _is_complete(e, work)), wish):
        return Verdict.PRESENT, 0
    coming = _covers((e.wire for e in sharing if e.key != cache.key), wish)
    return Verdict.FITS, 0 if coming else cache.size


def _covers(lines: Iterable[Mapping[str, Any]], wish: Selection) -> bool:
    """Whether what these lines ask for together stays the same with the wish."""
    have = [_selection(line) for line in lines]
    return bool(have) and Selections.union(have) == Selections.union([*have, wish])


def _is_complete(entry: Entry, work: WorkView) -> bool:
    """As the agent's answer to the latest work list says."""
    report = work.reports.get(entry.key)
    return (
        report is not None
        and report.state is ModelState.DOWNLOADED
        and report.storage_key in (None, entry.storage_key)
        and work.observed in (None, work.generation)
    )


def _selection(wire: Mapping[str, Any]) -> Selection:
    """Order and repetition of patterns mean nothing; an empty list is the same as none."""
    allow, ignore = (
        tuple(sorted(set(wire.get(name) or ()))) for name in ("allowPatterns", "ignorePatterns")
    )
    return Selection(allow or None, ignore)
