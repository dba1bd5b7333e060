"""The store as the planner sees it: one snapshot, looked at from time to time and after every change."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from agent.copying.space import Ledger, written
from agent.errors import FetchError
from agent.planning.selection import selections_from_json
from agent.planning.world import Disk, Published
from agent.storage.errors import StoreError, translated
from agent.storage.layout import PRIVATE
from agent.storage.store import Store
from agent.storage.tree import Tree, Usage
from shared.api.node import NodeStorage
from shared.domain.storage_key import is_storage_key
from shared.domain.uri import redact


class _EveryKey(frozenset[str]):
    def __contains__(self, key: object) -> bool:
        return True


# What is staged goes by eviction, key by key; a sweep beside copies that just begin must leave it alone.
EVERY_KEY: Collection[str] = _EveryKey()


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found. fitting: of the sizes asked about, those that would be admitted now.

    problem: why the folder cannot be used. leavings: of what was removed, something cannot be deleted.
    """

    staged: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    usage: Usage | None = None
    reserved: int = 0
    fitting: frozenset[int] = frozenset()
    problem: str | None = None
    leavings: str | None = None


class Shelf:
    """Bookkeeping around the store; only `look` touches the disk."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        *,
        root: Path,
        retired_grace: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        self.store = store
        self._ledger = ledger
        self._root = root
        self._retired_grace = retired_grace
        self._clock = clock
        self._look = Look()
        self._published: dict[str, tuple[Tree, Published]] = {}
        self._damaged: dict[str, tuple[str, ...]] = {}
        self._checked: dict[str, datetime] = {}

    @property
    def problem(self) -> str | None:
        return self._look.problem

    @property
    def leavings(self) -> str | None:
        return self._look.leavings

    def look(self, needs: Collection[int]) -> Look:
        """Blocking. Replaced trees whose grace is over go on the way. A root in trouble is part of what is found."""
        try:
            self.store.check()
            leavings = self._sweep()
            return Look(
                staged=staged_keys(self._root),
                foreign=self.store.foreign(),
                usage=self.store.usage(),
                reserved=self._ledger.reserved(),
                fitting=frozenset(need for need in needs if self._ledger.fits(need)),
                leavings=leavings,
            )
        except FetchError as error:
            return Look(problem=error.message)

    def saw(self, look: Look) -> None:
        """The newest look counts from now on."""
        if look.problem is not None:
            look = replace(self._look, problem=look.problem)
        self._look = look

    def disk(self) -> Disk:
        """The planner's view; trees are as the store has them at this moment."""
        trees = self.store.trees()
        for key in self._published.keys() - trees.keys():
            self._gone(key)
        return Disk(
            published={key: self._view(key, tree) for key, tree in trees.items()},
            staged=self._look.staged,
            foreign=self._look.foreign - trees.keys(),
            damaged={key: paths for key, paths in self._damaged.items() if paths},
            checked=dict(self._checked),
        )

    def checked(self, key: str, damaged: tuple[str, ...], *, now: datetime) -> None:
        """A look at one tree ended."""
        self._checked[key] = now
        self._damaged[key] = damaged

    def unseen(self, key: str, *, now: datetime) -> None:
        """A look at one tree failed: what is known of it counts until the next one."""
        self.checked(key, self._damaged.get(key, ()), now=now)

    def changed(self, key: str, *, now: datetime) -> None:
        """The tree was published or removed just now: what an older look said of it is void."""
        self._look = replace(
            self._look, staged=self._look.staged - {key}, foreign=self._look.foreign - {key}
        )
        self.checked(key, (), now=now)

    def storage(self) -> NodeStorage | None:
        """The disk for the status; None before the first look."""
        usage = self._look.usage
        if usage is None:
            return None
        available = self._ledger.usable(usage)
        return NodeStorage(
            capacity_bytes=usage.capacity,
            available_bytes=available,
            kept_free_bytes=usage.available - available,
            used_bytes=usage.used,
            reserved_bytes=self._look.reserved,
        )

    def _sweep(self) -> str | None:
        try:
            self.store.sweep(now=self._clock(), grace=self._retired_grace, wanted=EVERY_KEY)
        except StoreError:
            raise
        except FetchError as error:
            return f"the cache folder can be used, but what was removed is not all gone: {error.message}"
        return None

    def _view(self, key: str, tree: Tree) -> Published:
        known = self._published.get(key)
        if known is not None and known[0] is tree:
            return known[1]
        view = Published(
            storage_key=key,
            uri=tree.uri,
            revision=tree.revision,
            selections=selections_from_json(tree.selections),
            size=tree.size,
            files=len(tree.files),
            published_at=tree.published_at,
            verified_by=tree.verified_by.value,
        )
        self._published[key] = (tree, view)
        return view

    def _gone(self, key: str) -> None:
        for known in (self._published, self._damaged, self._checked):
            known.pop(key, None)


def holders(root: Path, store: Store) -> dict[str, int]:
    """Bytes of what is published, by source, and of what is unfinished, by storage key. Blocking."""
    staging = root / PRIVATE / "staging"
    return {redact(tree.uri): tree.size for tree in store.trees().values()} | {
        f"unfinished {key}": size for key in staged_keys(root) if (size := written(staging / key))
    }


def staged_keys(root: Path) -> frozenset[str]:
    """Storage keys with unfinished files. Blocking."""
    with translated("listing what is staged"):
        return frozenset(
            entry.name
            for entry in (root / PRIVATE / "staging").iterdir()
            if is_storage_key(entry.name)
        )
