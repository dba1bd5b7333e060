"""The door to a node's disk: what is published, staged and retired below one root.

Blocking throughout. Calls for different models run side by side; changes of one model wait for each other.
"""

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from agent.errors import FetchError
from agent.manifest import RemoteFile
from agent.storage import (
    adoption,
    eviction,
    inspection,
    manifests,
    publication,
    sharing,
    trash,
    verification,
)
from agent.storage.catalogue import Catalogue
from agent.storage.disk import Disk, ensure_folder, opened_folder
from agent.storage.durability import Durability
from agent.storage.errors import StoreUnavailable, describe
from agent.storage.gate import Gate
from agent.storage.layout import PRIVATE, Layout
from agent.storage.manifests import Record
from agent.storage.recovery import recover
from agent.storage.tree import Staging, Tree, TreeFile, Usage
from agent.storage.walk import is_empty_folder, lstat, names
from shared.domain.storage_key import is_storage_key

_STAGED = "tree"
L = TypeVar("L", inspection.Inspection, verification.Verification)


class Store:
    """Opened once per root; every method may be called from any thread.

    Raises only `FetchError`s: `StoreError` when the whole root is in trouble, else `Stalled` or `Retryable`.
    """

    def __init__(self, layout: Layout, disk: Disk, records: Mapping[str, Record]) -> None:
        self._layout = layout
        self._disk = disk
        self._known = Catalogue(layout, records)
        self._durability = Durability(layout, disk)
        self._emptying = threading.Lock()
        self._gate = Gate(str(layout.root))

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        gid: int | None = None,
        expect_layout: bool = False,
        disk: Disk | None = None,
    ) -> "Store":
        """Lock the root, finish what a crash interrupted, read the manifests' first lines; no model is read.

        gid: group of new folders, where permitted. expect_layout: copies are known to be here, so a root without a marker is
        a disk that is not mounted. Raises `StoreError`; a root that is refused is left as it was.
        """
        disk = disk or Disk()
        layout = Layout.open(root, gid=gid, expect=expect_layout, disk=disk)
        try:
            return cls(layout, disk, recover(layout, disk, staged=_STAGED))
        except OSError as exc:
            layout.close()
            raise StoreUnavailable(f"cannot use {root}: {describe(exc)}") from exc
        except BaseException:
            layout.close()
            raise

    def close(self) -> None:
        """Release the root once the calls under way are through; new ones are refused. Idempotent.

        Deletions stop within milliseconds and are gone on with after the next start; a verification ends when its caller says so.
        """
        if self._gate.close():
            self._layout.close()

    def check(self) -> None:
        """Raises `StoreUnavailable` when the root is no longer the mounted, writable disk that was opened."""
        with self._gate.call("checking the disk"):
            self._layout.check()

    def trees(self) -> Mapping[str, Tree]:
        """What is published, by storage key; a snapshot."""
        return self._known.trees()

    def foreign(self) -> frozenset[str]:
        """Names under `models/` that the store did not publish. Empty folders at a storage key are nobody's."""
        with self._gate.call("listing models"):
            return frozenset(
                name
                for name in names(self._layout.models)
                if name not in self._known
                and not (is_storage_key(name) and is_empty_folder(self._layout.models, name))
            )

    def staging(self, key: str) -> Staging:
        """The copy's folders, created when missing; what an earlier attempt left is still there."""
        with self._changing(key, f"preparing to stage {key}"):
            stage = ensure_folder(self._disk, self._layout.staging, key, self._layout.gid)
            try:
                for name in (_STAGED, "journal", "archive"):
                    os.close(ensure_folder(self._disk, stage, name, self._layout.gid))
            finally:
                os.close(stage)
        folder = self._layout.root / PRIVATE / "staging" / key
        return Staging(folder / _STAGED, folder / "journal", folder / "archive")

    def discard_staging(self, key: str) -> None:
        """Forget what was staged, journal included."""
        with self._changing(key, f"discarding what was staged for {key}"):
            if lstat(self._layout.staging, key) is not None:
                trash.discard(self._disk, self._layout.staging, key, self._layout.trash)
                self._disk.sync(self._layout.staging)
        self._tidy()

    def prune(self, key: str, into: Path, paths: Collection[str]) -> None:
        """Of what an earlier attempt left in a staged folder only files at these paths stay."""
        with self._changing(key, f"pruning what is staged for {key}"), opened_folder(into) as fd:
            publication.prune(self._disk, fd, paths)

    def write_ahead(self, *, files: int, size: int) -> None:
        """The disk takes what is staged by now, so that `publish` waits for less. files, size: of what is being staged."""
        with suppress(FetchError), self._gate.call("writing ahead"):
            self._durability.ahead(files=files, size=size)

    def publish(self, tree: Tree, staged: Path) -> None:
        """Put the staged folder at `models/<key>`, durable, in one step for readers; what was there is retired.

        Staged files that `tree` does not name are removed first. On any error the old tree is in place and the staged one
        stays for another try. Afterwards nothing of the key is left in staging.
        """
        key = tree.storage_key
        if staged.parent != self._layout.root / PRIVATE / "staging" / key:
            raise ValueError(f"{staged} is not a staged folder of {key}")
        with self._changing(key, f"publishing {key}"):
            try:
                publication.publish(self._layout, self._disk, self._durability, tree, staged.name)
            finally:
                self._known.reload(key)
        self._tidy()

    def adopt(self, tree: Tree) -> None:
        """Take over a folder at `models/<key>` whose content was found to be `tree`: from now on it is ours.

        Raises `Retryable` when a file is missing or has another size.
        """
        key = tree.storage_key
        with self._changing(key, f"adopting {key}"):
            try:
                adoption.adopt(self._layout, self._disk, tree)
            finally:
                self._known.reload(key)

    def evict(self, key: str) -> None:
        """Delete the published tree; nothing happens to a key without one, nor to a folder that took the tree's place."""
        with self._changing(key, f"evicting {key}"):
            try:
                eviction.evict(self._layout, self._disk, key)
            finally:
                self._known.reload(key)
        self._empty_trash()

    def sweep(self, *, now: datetime, grace: timedelta, wanted: Collection[str]) -> None:
        """Delete trees that were replaced at least `grace` ago, what is staged for keys that nobody wants, and the trash."""
        with self._gate.call("sweeping retired trees"):
            self._layout.check()
            with self._emptying:
                eviction.drop_retired(self._layout, self._disk, now=now, grace=grace)
            staged = names(self._layout.staging)
        for key in staged:
            if key not in wanted and is_storage_key(key):
                self.discard_staging(key)
        self._empty_trash()

    def inspect(self, key: str) -> tuple[str, ...]:
        """Paths that must be fetched again: missing, of another size or time, or found damaged by `verify`.

        Reads no content. Nothing for a key that is not published.
        """
        return self._inspect(key)[0]

    def extras(self, key: str) -> tuple[str, ...]:
        """Files in the published tree that are not the model's, written by whoever mounts it. They stay until the tree goes."""
        return self._inspect(key)[1]

    def verify(
        self,
        key: str,
        *,
        cancelled: threading.Event,
        paths: Collection[str] | None = None,
        pace: Callable[[int], None] | None = None,
    ) -> tuple[str, ...]:
        """Read every file again; paths whose content is not what was published. `inspect` repeats them until they are replaced.

        A file whose modification time alone changed is good, and known by its new time then. paths: read only these. pace: told
        before up to a MiB is read how much, and the disk is read past the page cache. Other models that share a damaged file are
        damaged too. Raises `errors.Cancelled`.
        """

        def ask(count: int) -> bool:
            if pace is not None:
                pace(count)
            return cancelled.is_set()

        record, found = self._look(
            key,
            lambda tree: verification.verify(
                self._layout.models, tree, cancelled=ask, paths=paths, past_cache=pace is not None
            ),
        )
        if record is None or found is None:
            return ()
        with self._changing(key, f"verifying {key}"):
            if self._known.get(key) is not record:
                return ()
            self._known.found(key, found.damaged, read=paths)
            sharing.spread_damage(self._layout, self._known, record.tree, found.damaged)
            if found.refreshed is not None:
                renewed = replace(record, tree=replace(record.tree, files=found.refreshed))
                manifests.write(self._disk, self._layout.manifests, f"{key}.json", renewed)
                self._known.reload(key, same_content=True)
        return found.damaged

    def reuse(
        self, key: str, wanted: Sequence[RemoteFile], into: Path, *, trust: str
    ) -> tuple[TreeFile, ...]:
        """Hard-link good published files that equal a wanted one into the staged folder; which these are.

        Of the key's own tree: the same digest, or the same path, size and validator. Of other trees of the same trust: the
        same digest, where it names a content. What `share` linked before a publication failed stays. Staged files that share
        their content with another name and are not among the result are removed, so that every other one may be written to.
        """
        with self._changing(key, f"reusing files of {key}"), opened_folder(into) as fd:
            return sharing.reuse(self._layout, self._disk, self._known, key, wanted, fd, trust)

    def share(
        self, key: str, files: Sequence[TreeFile], into: Path, *, cancelled: threading.Event
    ) -> int:
        """Staged files that equal another tree's byte for byte become names of that; the bytes that came free.

        Whatever the trust: who has fetched a content has a right to it. Raises `errors.Cancelled`.
        """
        with self._changing(key, f"sharing files of {key}"), opened_folder(into) as fd:
            return sharing.share(
                self._layout, self._disk, self._known, key, files, fd, cancelled.is_set
            )

    def usage(self) -> Usage:
        """The disk and the store's part of it."""
        with self._gate.call("measuring the disk"):
            return self._known.usage()

    @contextmanager
    def _changing(self, key: str, what: str) -> Iterator[None]:
        if not is_storage_key(key):
            raise ValueError(f"{key!r} is not a storage key")
        with self._gate.change(key, what):
            self._layout.check()
            yield

    def _inspect(self, key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        record, found = self._look(key, lambda tree: inspection.inspect(self._layout.models, tree))
        if record is None or found is None:
            return (), ()
        self._known.meter.remember(key, found.footprint)
        damaged = self._known.damaged(key).union(found.damaged)
        return tuple(sorted(damaged)), found.extra

    def _look(self, key: str, look: Callable[[Tree], L]) -> tuple[Record | None, L | None]:
        """Compare a tree with its manifest while others may change it; what they disturb is looked at again."""
        what = f"looking at {key}"
        while (record := self._known.get(key)) is not None:
            found, failed = None, None
            try:
                with self._gate.call(what):
                    found = look(record.tree)
            except FetchError as exc:
                failed = exc
            if found is not None and not found.damaged:
                return record, found
            with self._changing(key, what):  # whoever was changing it is through now
                if self._known.get(key) is record:
                    if failed is not None:
                        raise failed
                    return record, found
        return None, None

    def _tidy(self) -> None:
        """What cannot be deleted hinders nobody; the next sweep tells of it."""
        with suppress(FetchError):
            self._empty_trash()

    def _empty_trash(self) -> None:
        if self._gate.is_closing():
            return
        with self._gate.call("emptying the trash"), self._emptying:
            try:
                trash.empty(self._disk, self._layout.trash, stopped=self._gate.is_closing)
            finally:
                self._known.meter.changed()
