"""By cache: which nodes have it on their list, which report on it, and how large it was found. Kept up change by change."""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from shared.domain.views import NOTHING, ReportView, WorkView

_NOBODY: AbstractSet[str] = frozenset()


@dataclass(slots=True)
class Holdings:
    _lines: dict[str, set[str]] = field(default_factory=dict)
    _reports: dict[str, set[str]] = field(default_factory=dict)
    _sizes: dict[tuple[str, str | None], Counter[int]] = field(default_factory=dict)
    """How many agents found each size, by the cache's key and the folder that they spoke of."""

    def listing(self, key: str) -> AbstractSet[str]:
        """Nodes whose work list has a line for the key."""
        return self._lines.get(key, _NOBODY)

    def reporting(self, key: str) -> AbstractSet[str]:
        """Nodes whose agent says something of the key."""
        return self._reports.get(key, _NOBODY)

    def largest(self, key: str, storage_key: str) -> int | None:
        """In bytes; what agents said of another folder, which a cache of this name had before, does not count."""
        found = [
            size for folder in (storage_key, None) for size in self._sizes.get((key, folder), ())
        ]
        return max(found, default=None)

    def move(self, name: str, old: WorkView | None, new: WorkView | None) -> set[str]:
        """The node's object changed; returns the keys whose sizes did."""
        if old is None or new is None or old.entries != new.entries:
            before, after = (
                {line.key for line in work.entries} if work else set() for work in (old, new)
            )
            _move(self._lines, name, before, after)
        was, now = (work.reports if work else NOTHING for work in (old, new))
        if was.keys() != now.keys():
            _move(self._reports, name, was.keys(), now.keys())
        return self._count(was, now)

    def _count(self, was: Mapping[str, ReportView], now: Mapping[str, ReportView]) -> set[str]:
        changed = set()
        for key in was.keys() | now.keys():
            before, after = _found(was.get(key)), _found(now.get(key))
            if before == after:
                continue
            changed.add(key)
            if after is not None:
                folder, size = after
                self._sizes.setdefault((key, folder), Counter())[size] += 1
            if before is not None:
                folder, size = before
                counts = self._sizes[key, folder]
                counts[size] -= 1
                if not counts[size]:
                    del counts[size]
                if not counts:
                    del self._sizes[key, folder]
        return changed


def _found(report: ReportView | None) -> tuple[str | None, int] | None:
    if report is None or report.bytes_total is None:
        return None
    return report.storage_key, report.bytes_total


def _move(
    index: dict[str, set[str]], name: str, before: AbstractSet[str], after: AbstractSet[str]
) -> None:
    for key in after - before:
        index.setdefault(key, set()).add(name)
    for key in before - after:
        names = index[key]
        names.discard(name)
        if not names:
            del index[key]
