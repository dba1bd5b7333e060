"""One copy, from credentials to a published tree."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from agent.blocking import Blocking
from agent.copying.adopt import equal_files
from agent.copying.asking import Asking, Judgement
from agent.copying.progress import CopyWatch, Phase
from agent.copying.space import LacksSpace, Ledger
from agent.errors import Retryable, SourceChanged, Stalled
from agent.manifest import ArchiveKind, Manifest, RemoteFile, weakest
from agent.planning.desired import Wanted
from agent.planning.selection import (
    nothing_selected,
    select,
    selections_from_json,
    selections_to_json,
)
from agent.sources.base import Source
from agent.storage.archive import unpack
from agent.storage.errors import translated
from agent.storage.layers import unpack_layers
from agent.storage.store import Store
from agent.storage.tree import Tree, TreeFile
from agent.transfer.engine import Engine, FetchJob
from shared.domain.reasons import Reason

# A source that changes again and again while it is read is being written to; later is better then.
_MOST_CHANGES = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """A published tree, and who may have it."""

    tree: Tree
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Have:
    """What is on disk before the copy begins. whole: the published tree is as it was published.

    revision: to be asked for when the work list names none; None = whatever the source has now.
    """

    tree: Tree | None = None
    whole: bool = False
    foreign: bool = False
    revision: str | None = None


class Copier:
    """Makes copies; any number at a time, at most one per storage key."""

    def __init__(
        self,
        *,
        store: Store,
        models: Path,
        engine: Engine,
        asking: Asking,
        ledger: Ledger,
        blocking: Blocking,
        clock: Callable[[], datetime],
        archive_ratio: float,
    ) -> None:
        self._store = store
        self._models = models
        self._engine = engine
        self._asking = asking
        self._ledger = ledger
        self._blocking = blocking
        self._clock = clock
        self._archive_ratio = archive_ratio

    async def copy(self, wanted: Wanted, watch: CopyWatch, have: Have) -> Outcome:
        """Raises FetchError. A crash or cancellation leaves staging that the next call goes on from.

        A source that changes meanwhile is resolved again at once, a few times.
        """
        for _ in range(_MOST_CHANGES):
            try:
                return await self._copy(wanted, watch, have)
            except SourceChanged as error:
                changed = error
            except LacksSpace:
                raise
            except Stalled as error:
                if error.reason is not Reason.INSUFFICIENT_STORAGE:
                    raise
                raise await self._ledger.ran_out(error) from error
        raise Retryable(
            Reason.SOURCE_CHANGED, f"{changed.message}; it changed {_MOST_CHANGES} times in a row"
        ) from changed

    async def check_access(self, wanted: Wanted, watch: CopyWatch, have: Have) -> Judgement:
        """Which accesses the source lets have the model; moves nothing, raises nothing."""
        async with AsyncExitStack() as stack:
            return (await self._asking.ask(wanted, watch, have.revision, stack)).judgement

    async def _copy(self, wanted: Wanted, watch: CopyWatch, have: Have) -> Outcome:
        watch.begin()
        watch.enter(Reason.RESOLVING)
        async with AsyncExitStack() as stack:
            with watch.spending(Phase.RESOLVE):
                answer = await self._asking.ask(wanted, watch, have.revision, stack)
                source, manifest = answer.require()
                judgement = answer.judgement
            if not manifest.packed:
                manifest = select(manifest, wanted.selections)
            watch.resolved(revision=manifest.revision, pinned=manifest.pinned, total=manifest.size)
            if have.tree is not None and have.whole and _answers(have.tree, wanted, manifest):
                return Outcome(have.tree, judgement)
            if have.foreign and not manifest.packed:
                adopted = await self._adopt(wanted, manifest, watch)
                if adopted is not None:
                    return Outcome(adopted, judgement)
            files = await self._fetch(wanted, source, manifest, watch)
            tree = self._tree(wanted, manifest, files)
            # What the source said of 200,000 files takes 50 MB, and publishing them as much.
            del answer, manifest, files
            await self._publish(tree, watch)
        return Outcome(self._store.trees()[wanted.storage_key], judgement)

    async def _adopt(self, wanted: Wanted, manifest: Manifest, watch: CopyWatch) -> Tree | None:
        """The foreign folder as a tree of ours, when every byte of it is the source's."""
        watch.enter(Reason.VERIFYING)
        folder = self._models / wanted.storage_key
        with watch.spending(Phase.VERIFY), translated(f"comparing {wanted.storage_key}"):
            files = await self._blocking.cancellable(
                lambda cancelled: equal_files(folder, manifest.files, cancelled.is_set)
            )
        if files is None:
            return None
        tree = self._tree(wanted, manifest, files)
        with watch.spending(Phase.PUBLISH):
            await self._blocking(self._store.adopt, tree)
        return self._store.trees()[wanted.storage_key]

    async def _fetch(
        self, wanted: Wanted, source: Source, manifest: Manifest, watch: CopyWatch
    ) -> tuple[TreeFile, ...]:
        """Into the staged tree."""
        key = wanted.storage_key
        await self._ledger.keep(key)
        staging = await self._blocking(self._store.staging, key)
        unused, used = (
            (staging.tree, staging.archive) if manifest.packed else (staging.archive, staging.tree)
        )
        await self._blocking(self._store.prune, key, unused, ())
        await self._blocking(
            self._store.prune, key, used, frozenset(file.path for file in manifest.files)
        )
        if manifest.archive is not None:
            files = await self._fetch_archive(manifest.archive, wanted, source, manifest, watch)
        elif manifest.layers:
            files = await self._fetch_layers(wanted, source, manifest, watch)
        else:
            reused = await self._blocking(
                self._store.reuse, key, manifest.files, staging.tree, trust=wanted.trust
            )
            missing = _missing(manifest.files, reused)
            watch.reused = sum(file.size for file in reused)
            async with self._admit(key, missing, staging.tree, watch):
                job = FetchJob(key, missing, (source,), staging.tree, staging.journal)
                files = (*reused, *await self._transfer(job, watch))
        watch.enter(Reason.VERIFYING)
        with watch.spending(Phase.VERIFY):
            watch.shared = await self._blocking.cancellable(
                lambda cancelled: self._store.share(key, files, staging.tree, cancelled=cancelled)
            )
        return files

    async def _publish(self, tree: Tree, watch: CopyWatch) -> None:
        staging = await self._blocking(self._store.staging, tree.storage_key)
        with watch.spending(Phase.PUBLISH):
            await self._blocking(self._store.publish, tree, staging.tree)

    async def _fetch_archive(
        self,
        kind: ArchiveKind,
        wanted: Wanted,
        source: Source,
        manifest: Manifest,
        watch: CopyWatch,
    ) -> tuple[TreeFile, ...]:
        """The archive next to the tree, then its members in the tree; patterns choose among the members."""
        key = wanted.storage_key
        staging = await self._blocking(self._store.staging, key)
        async with self._admit(key, manifest.files, staging.tree.parent, watch):
            job = FetchJob(key, manifest.files, (source,), staging.archive, staging.journal)
            (packed,) = await self._transfer(job, watch)
            watch.enter(Reason.UNPACKING)
            limit = await self._ledger.widen(key, int(packed.size * self._archive_ratio))
            with watch.spending(Phase.UNPACK):
                unpacking = self._blocking.cancellable(
                    lambda cancelled: unpack(
                        staging.archive / packed.path,
                        kind,
                        staging.tree,
                        limit_bytes=limit,
                        cancelled=cancelled,
                        verified_by=packed.verified_by,
                        validator=packed.validator,
                    )
                )
                members = await self._ledger.watched(key, unpacking)
        return _selected(members, wanted)

    async def _fetch_layers(
        self, wanted: Wanted, source: Source, manifest: Manifest, watch: CopyWatch
    ) -> tuple[TreeFile, ...]:
        """All files next to the tree, then the tree made of them; patterns choose among what is in it."""
        key = wanted.storage_key
        staging = await self._blocking(self._store.staging, key)
        async with self._admit(key, manifest.files, staging.tree.parent, watch):
            job = FetchJob(key, manifest.files, (source,), staging.archive, staging.journal)
            packed = await self._transfer(job, watch)
            watch.enter(Reason.UNPACKING)
            size = sum(file.size for file in packed)
            limit = await self._ledger.widen(key, int(size * self._archive_ratio))
            with watch.spending(Phase.UNPACK):
                unpacking = self._blocking.cancellable(
                    lambda cancelled: unpack_layers(
                        staging.archive,
                        packed,
                        manifest.layers,
                        staging.tree,
                        limit_bytes=limit,
                        cancelled=cancelled,
                    )
                )
                members = await self._ledger.watched(key, unpacking)
        return _selected(members, wanted)

    async def _transfer(self, job: FetchJob, watch: CopyWatch) -> tuple[TreeFile, ...]:
        watch.enter(Reason.DOWNLOADING)
        with watch.transferring():
            ahead = partial(self._store.write_ahead, files=len(job.files), size=job.size)
            job = replace(job, room=self._ledger.room(job.folder), ahead=ahead)
            fetching = self._engine.fetch(job, watch.progress)
            fetched = await self._ledger.watched(job.key, fetching)
        return tuple(
            TreeFile(file.path, file.size, file.digests, file.validator, file.verified_by)
            for file in fetched
        )

    @asynccontextmanager
    async def _admit(
        self, key: str, files: Sequence[RemoteFile], folder: Path, watch: CopyWatch
    ) -> AsyncIterator[None]:
        """Space for the files; those whose size the source does not say come on top of it, as long as there is some."""
        sizes = [file.size for file in files]
        total = sum(size or 0 for size in sizes)
        async with AsyncExitStack() as stack:
            with watch.spending(Phase.ADMIT):
                await stack.enter_async_context(
                    self._ledger.admit(key, total, folder, open_ended=None in sizes)
                )
            yield

    def _tree(self, wanted: Wanted, manifest: Manifest, files: tuple[TreeFile, ...]) -> Tree:
        return Tree(
            storage_key=wanted.storage_key,
            uri=wanted.uri,
            revision=manifest.revision,
            selections=selections_to_json(wanted.selections),
            files=tuple(sorted(files, key=lambda file: file.path)),
            published_at=self._clock(),
            verified_by=weakest([file.verified_by for file in files]),
            trust=wanted.trust,
        )


def _missing(files: Sequence[RemoteFile], have: Sequence[TreeFile]) -> tuple[RemoteFile, ...]:
    paths = {file.path for file in have}
    return tuple(file for file in files if file.path not in paths)


def _selected(members: tuple[TreeFile, ...], wanted: Wanted) -> tuple[TreeFile, ...]:
    files = tuple(file for file in members if wanted.selections.selects(file.path))
    if not files:
        raise nothing_selected(len(members))
    return files


def _answers(tree: Tree, wanted: Wanted, manifest: Manifest) -> bool:
    return (
        tree.revision == manifest.revision
        and selections_from_json(tree.selections) == wanted.selections
    )
