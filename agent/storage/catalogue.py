"""What is published, as memory has it: records, what was found damaged, what it occupies."""

import threading
from collections.abc import Collection, Iterable, Mapping

from agent.storage import manifests
from agent.storage.layout import Layout
from agent.storage.manifests import ManifestInvalid, Record
from agent.storage.meter import Meter
from agent.storage.tree import Tree, Usage


class Catalogue:
    """May be read from any thread; `reload` is for whoever holds the key."""

    def __init__(self, layout: Layout, records: Mapping[str, Record]) -> None:
        self._layout = layout
        self._records = records
        self._damaged: dict[str, frozenset[str]] = {}
        self._commit = threading.Lock()
        self.meter = Meter(layout, {key: one.footprint for key, one in records.items()})

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def get(self, key: str) -> Record | None:
        return self._records.get(key)

    def others(self, key: str) -> list[Record]:
        """The records of all other keys."""
        return [record for name, record in self._records.items() if name != key]

    def trees(self) -> Mapping[str, Tree]:
        """A snapshot."""
        return {key: record.tree for key, record in self._records.items()}

    def usage(self) -> Usage:
        """Raises `OSError`."""
        return self.meter.usage(self._records)

    def damaged(self, key: str) -> frozenset[str]:
        """Paths that were found damaged and have not been replaced since."""
        return self._damaged.get(key, frozenset())

    def found(
        self, key: str, damaged: Iterable[str], *, read: Collection[str] | None = None
    ) -> None:
        """The paths `read`, or all, were looked at: of these exactly `damaged` are."""
        unread = frozenset() if read is None else self.damaged(key) - frozenset(read)
        self._damaged[key] = unread.union(damaged)

    def also_damaged(self, key: str, path: str) -> None:
        self._damaged[key] = self.damaged(key) | {path}

    def reload(self, key: str, *, same_content: bool = False) -> None:
        """Memory follows the disk, whatever became of a change."""
        try:
            record = manifests.read(self._layout.manifests, f"{key}.json")
        except (FileNotFoundError, ManifestInvalid):
            record = None
        with self._commit:
            records = dict(self._records)
            if record is None:
                records.pop(key, None)
            else:
                records[key] = record
            self._records = records
        if not same_content:
            self._damaged.pop(key, None)
        self.meter.forget(key)
