"""Files whose bytes are all there: are they the right ones?"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import SourceChanged, Stalled
from agent.manifest import Digest, RemoteFile, Strength
from agent.transfer import verify
from agent.transfer.crew import Crew, Steps
from agent.transfer.flow import Flow
from agent.transfer.parts import Range
from agent.transfer.routes import Routes
from agent.transfer.work import FileWork
from agent.transfer.workshop import Workshop
from shared.domain.reasons import Reason

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that is on disk and verified. digests: what was computed; the CRC-32C is always among them."""

    path: str
    size: int
    digests: tuple[Digest, ...]
    verified_by: Strength
    validator: str


class Closing:
    """What is known of each finished file is kept here, and nothing else of it. For one event loop."""

    def __init__(
        self,
        files: Sequence[RemoteFile],
        *,
        key: str,
        shop: Workshop,
        crew: Crew,
        flow: Flow,
        routes: Routes,
    ) -> None:
        self._files = files
        self._key = key
        self._shop = shop
        self._crew = crew
        self._flow = flow
        self._routes = routes
        self._cursors: dict[FileWork, asyncio.Lock] = {}
        # Files that changed: what is there of them may be of several versions, however they are listed next time.
        self._mixed: set[str] = set()
        self._fetched: list[FetchedFile | None] = [None] * len(files)
        self.left = len(files)
        self.over = asyncio.Event()

    @property
    def fetched(self) -> list[FetchedFile]:
        """In the order of the job."""
        return [file for file in self._fetched if file is not None]

    def is_closed(self, work: FileWork) -> bool:
        return self._fetched[work.index] is not None

    def open_files(self) -> list[int]:
        return [index for index, file in enumerate(self._fetched) if file is None]

    def recover(self) -> Steps[dict[int, FileWork]]:
        """Files of which a former attempt left something, by index; those that it left whole are closed. For a thread."""
        begun: dict[int, FileWork] = {}
        for index, file in enumerate(self._files):
            work = FileWork(file, index)
            yield from verify.recover(work, self._shop)
            if not work.done:
                continue
            found = None
            if sum(part.size for part in work.done) == work.size:
                yield from verify.advance(work, self._shop)
                found = verify.digests(work)
            if found is None:
                begun[index] = work
            else:
                self._close(work, found)
        self._shop.journal.forget()
        return begun

    async def hash_on(self, work: FileWork) -> None:
        """Over what is there in order, unless somebody is at it."""
        lock = self._cursors.setdefault(work, asyncio.Lock())
        if not lock.locked():
            async with lock:
                await self._advance(work)

    async def close(self, work: FileWork) -> bool:
        """False when some of its ranges are to be fetched again: a first mismatch. Raises FetchError."""
        async with self._cursors.setdefault(work, asyncio.Lock()):
            # Bytes that keep to a stated digest are the right ones, whenever they were read.
            if work.stated is None:
                await self._look_again(work)
            if work.sequential and work.hashed < (work.size or 0):
                await self._advance(work)
            found = verify.digests(work)
            if found is not None:
                self._close(work, found)
                self._cursors.pop(work, None)
                if self.left == 0:
                    self.over.set()
                return True
            await self._look_again(work)
            steps = verify.bad_ranges(work, self._shop)
            bad = await self._crew.do_in_turns(self._crew.pools.reading, steps)
        self._mismatched(work, len(bad))
        self.reset(work, bad)
        return False

    def reset(self, work: FileWork, bad: Sequence[Range]) -> None:
        """Forget these ranges of a file, keep the others."""
        kept = {part: crcs for part, crcs in work.done.items() if part not in set(bad)}
        lost = work.reset() - sum(part.size for part in kept)
        self._shop.progress.found(-lost)
        self._shop.journal.drop(work.id)
        work.done = kept
        for claim in verify.claims(work):
            self._shop.journal.add(work.id, claim, stated=work.learned)

    def changed(self, work: FileWork) -> None:
        self._mixed.add(work.id)

    def forget_changed(self) -> None:
        """Once nobody writes any more."""
        for file in self._mixed:
            # On a disk that takes nothing any more the folder will not be gone on with either.
            with contextlib.suppress(OSError):
                self._shop.journal.drop(file)

    async def _advance(self, work: FileWork) -> None:
        await self._crew.do_in_turns(self._crew.pools.hashing, verify.advance(work, self._shop))

    async def _look_again(self, work: FileWork) -> None:
        try:
            await self._routes.look_again(work)
        except SourceChanged:
            self.changed(work)
            raise

    def _close(self, work: FileWork, digests: tuple[Digest, ...]) -> None:
        self._fetched[work.index] = FetchedFile(
            path=work.file.path,
            size=work.size or 0,
            digests=digests,
            verified_by=work.strength,
            validator=work.file.validator,
        )
        self.left -= 1
        self._shop.progress.file_done()

    def _mismatched(self, work: FileWork, ranges: int) -> None:
        work.mismatches += 1
        self._flow.mismatches += 1
        log.warning(
            "content is not what the source states",
            extra={"key": self._key, "file": work.file.path, "ranges": ranges},
        )
        if work.mismatches > 1:
            self._shop.journal.drop(work.id)
            stated = work.stated.algorithm.value if work.stated else "size"
            raise Stalled(
                Reason.CHECKSUM_MISMATCH,
                f"{work.file.path}: its {stated} is not what the source states, twice in a row",
            )
