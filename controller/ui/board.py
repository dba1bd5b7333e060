"""All copies as numbers in a table, kept current by looking at what changed, and what to tell browsers of it. No I/O.

A cell is 0 where no copy is, nor should be, else 128 x kind + percent; kinds are pairs of state and reason, counted from 1.
Caches and nodes have slots, which stay theirs and are given to others once they are gone.
"""

from collections.abc import ItemsView
from typing import Any, Final

from controller.ui.tones import Tone, percent, shown_copy, tone
from controller.world import World
from shared.domain.reason_table import TABLE
from shared.domain.reasons import Reason
from shared.domain.views import CacheView

_PERCENTS: Final = 128

Due = dict[str, set[str] | None]
"""Nodes to look at again, each with the caches in question; None: all."""


class Board:
    def __init__(self) -> None:
        self._caches = _Slots()
        self._nodes = _Slots()
        self._rows: dict[str, list[int]] = {}
        self._kinds: dict[tuple[Tone, Reason], int] = {}
        self._node_marks: dict[str, tuple[object, ...]] = {}
        self._cache_marks: dict[str, tuple[object, ...]] = {}
        self._shown: dict[tuple[str, int], dict[str, Any]] = {}
        self._kinds_told = 0
        self._changed: dict[tuple[str, int], dict[str, Any] | None] = {}
        self._cells: dict[tuple[int, int], int] = {}

    def stale(self, world: World, *, whole: bool = False) -> Due:
        """What changed since it was looked at. `whole`: a change of a cache bears on the placement of others."""
        due: Due = {}
        for key in self._cache_marks.keys() - world.caches.keys():
            self._drop_cache(key)
        for key, cache in world.caches.items():
            self._show("caches", self._caches.give(key), _cache(cache))
            mark = _cache_mark(world, cache)
            if self._cache_marks.get(key) == mark:
                continue
            self._cache_marks[key] = mark
            slot = self._caches.give(key)
            holding = {name for name, row in self._rows.items() if _at(row, slot)}
            for name in holding | world.expected(cache).keys():
                if whole:
                    due[name] = None
                else:
                    keys = due.setdefault(name, set())
                    if keys is not None:
                        keys.add(key)
        shown = (world.groups_of.keys() | world.works.keys()) & world.nodes.keys()
        for name in self._node_marks.keys() - shown:
            self._drop_node(name)
        for name in shown:
            if not _same(self._node_marks.get(name), _node_mark(world, name)):
                due[name] = None
        return due

    def look_at(self, world: World, name: str, keys: set[str] | None) -> None:
        if name not in world.nodes or not (name in world.groups_of or name in world.works):
            return
        slot = self._nodes.give(name)
        row = self._rows.setdefault(name, [])
        self._show("nodes", slot, _node(world, name))
        if keys is None:
            self._node_marks[name] = _node_mark(world, name)
            keys = {cache.key for cache in world.caches_on(name)}
            keys.update(world.works[name].reports if name in world.works else ())
            for index, value in enumerate(row):
                key = self._caches.holder(index)
                if value and key is not None:
                    keys.add(key)
        for key in keys:
            cache = world.caches.get(key)
            if cache is None or key not in self._cache_marks:
                continue
            self._set(slot, row, self._caches.give(key), self._value(world, cache, name))

    def snapshot(self) -> dict[str, Any]:
        """Everything as it is now; changes that are not told yet may be in it, and do no harm when they are told again."""
        return {
            "kinds": self._kinds_from(0),
            "caches": [[s, self._shown["caches", s]] for s in self._caches.taken()],
            "nodes": [
                [s, self._shown["nodes", s], self._rows[name]]
                for name, s in self._nodes.items()
                if name in self._rows
            ],
        }

    def changes(self) -> dict[str, Any] | None:
        """What is to be told since the last call."""
        kinds = self._kinds_from(self._kinds_told)
        if not (kinds or self._changed or self._cells):
            return None
        told: dict[str, Any] = {"kinds": kinds, "caches": [], "nodes": []}
        for (what, slot), info in self._changed.items():
            told[what].append([slot, info])
        told["cells"] = [
            number for (n, c), value in self._cells.items() for number in (n, c, value)
        ]
        self._kinds_told = len(self._kinds)
        self._changed, self._cells = {}, {}
        return told

    def _value(self, world: World, cache: CacheView, node: str) -> int:
        copy = shown_copy(world, cache, node)
        if copy is None:
            return 0
        pair = (tone(copy.verdict), copy.verdict.reason)
        kind = self._kinds.setdefault(pair, len(self._kinds) + 1)
        return kind * _PERCENTS + percent(copy)

    def _set(self, node: int, row: list[int], cache: int, value: int) -> None:
        if _at(row, cache) == value:
            return
        row.extend([0] * (cache + 1 - len(row)))
        row[cache] = value
        self._cells[node, cache] = value

    def _show(self, what: str, slot: int, info: dict[str, Any]) -> None:
        if self._shown.get((what, slot)) != info:
            self._shown[what, slot] = self._changed[what, slot] = info

    def _drop_cache(self, key: str) -> None:
        del self._cache_marks[key]
        slot = self._caches.free(key)
        for row in self._rows.values():
            if slot < len(row):
                row[slot] = 0
        self._cells = {place: v for place, v in self._cells.items() if place[1] != slot}
        self._shown.pop(("caches", slot), None)
        self._changed["caches", slot] = None

    def _drop_node(self, name: str) -> None:
        del self._node_marks[name]
        slot = self._nodes.free(name)
        self._rows.pop(name, None)
        self._cells = {place: v for place, v in self._cells.items() if place[0] != slot}
        self._shown.pop(("nodes", slot), None)
        self._changed["nodes", slot] = None

    def _kinds_from(self, first: int) -> list[list[Any]]:
        return [
            [index, tone_.value, reason.value, TABLE[reason].sentence]
            for (tone_, reason), index in self._kinds.items()
            if index > first
        ]


class _Slots:
    """Small numbers for names; a number is given again once it is free."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._free: list[int] = []

    def give(self, name: str) -> int:
        slot = self._of.get(name)
        if slot is None:
            slot = self._free.pop() if self._free else len(self._of)
            self._of[name], self._names[slot] = slot, name
        return slot

    def free(self, name: str) -> int:
        slot = self._of.pop(name)
        del self._names[slot]
        self._free.append(slot)
        return slot

    def holder(self, slot: int) -> str | None:
        return self._names.get(slot)

    def items(self) -> ItemsView[str, int]:
        return self._of.items()

    def taken(self) -> list[int]:
        return list(self._of.values())


def _at(row: list[int], slot: int) -> int:
    return row[slot] if slot < len(row) else 0


def _cache(cache: CacheView) -> dict[str, Any]:
    ready = next((c for c in cache.conditions if c.type == "Ready"), None)
    return {
        "name": cache.key,
        "ready": ready.status if ready else "Unknown",
        "reason": ready.reason if ready else Reason.PENDING.value,
        "deleting": cache.deleting,
    }


def _node(world: World, name: str) -> dict[str, Any]:
    work = world.works.get(name)
    disk = work.storage if work else None
    return {
        "name": name,
        "ready": world.nodes[name].ready,
        "silent": name in world.silent,
        "groups": sorted(world.groups_of.get(name, ())),
        "free": disk.available if disk else None,
    }


def _cache_mark(world: World, cache: CacheView) -> tuple[object, ...]:
    """What of a cache bears on its cells, beside what its nodes say."""
    return (
        cache.uid,
        cache.storage_key,
        cache.groups,
        cache.wanted,
        cache.deleting,
        cache.size,
        world.sizes.get(cache.key),
    )


def _node_mark(world: World, name: str) -> tuple[object, ...]:
    return (
        world.works.get(name),
        world.nodes.get(name),
        world.placements.get(name),
        name in world.silent,
        world.groups_of.get(name),
        world.unanswered(name),
    )


def _same(old: tuple[object, ...] | None, new: tuple[object, ...]) -> bool:
    """Views are replaced when they change, so that it need not be looked into them."""
    return (
        old is not None
        and all(a is b for a, b in zip(old[:5], new[:5], strict=True))
        and old[5] == new[5]
    )
