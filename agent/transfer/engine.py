"""Fetches files: the event loop plans, signs, limits and retries; threads move the bytes."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from agent.daemons import Daemons
from agent.manifest import RemoteFile
from agent.origin import Origin
from agent.policy import SourcePolicy
from agent.transfer.budget import Budget
from agent.transfer.closing import FetchedFile
from agent.transfer.crew import Pools
from agent.transfer.files import disk_errors
from agent.transfer.flow import MOST_THREADS, Figures, Flow
from agent.transfer.journal import Journal
from agent.transfer.pages import PageCache, Writing
from agent.transfer.pool import Pool
from agent.transfer.progress import Progress
from agent.transfer.run import Run
from agent.transfer.workshop import Workshop

T = TypeVar("T")

PART_SIZE: Final = 64 << 20
# Hashing in order keeps up with a fast disk on one core; more would take the cores from the transfers.
_HASH_THREADS: Final = 2
# What a restart left is read again: minutes for a large model, while others fetch.
_READ_THREADS: Final = 2

__all__ = ["PART_SIZE", "Budget", "Engine", "FetchJob", "FetchedFile"]


def _no_limit(size: int) -> None:
    """So many bytes are always there."""


def _later() -> None:
    """The disk takes it when it likes."""


@dataclass(frozen=True, slots=True)
class FetchJob:
    """Files to be fetched.

    key: storage key, for fairness between jobs. origins: places that serve these files, best first. folder: the files
    appear at folder / file.path. journal: a folder that outlives a crash, so that the next attempt resumes. room: asked in
    a thread before a file of unknown size grows by so many bytes; raises `Stalled` when these are not to be had. ahead:
    called in a thread after each few hundred small files, which the disk may take while others come.
    """

    key: str
    files: tuple[RemoteFile, ...]
    origins: tuple[Origin, ...]
    folder: Path
    journal: Path
    room: Callable[[int], None] = _no_limit
    ahead: Callable[[], None] = _later

    @property
    def size(self) -> int:
        """Bytes, as far as they are known beforehand."""
        return sum(file.size or 0 for file in self.files)


class Engine:
    """All fetches of a process, under one budget. For one event loop."""

    def __init__(
        self,
        budget: Budget,
        *,
        policy: SourcePolicy,
        part_size: int = PART_SIZE,
        writing: Writing = Writing.AUTO,
    ) -> None:
        self._part_size = part_size
        self._cache = PageCache(writing)
        self._flow = Flow(budget, Pool(policy))
        self._threads: Daemons | None = None
        self._hashing = Daemons(_HASH_THREADS, name="hashing")
        self._reading = Daemons(_READ_THREADS, name="reading")
        self._runs: dict[int, Run] = {}

    async def fetch(self, job: FetchJob, progress: Progress) -> tuple[FetchedFile, ...]:
        """Every file of the job, in its order, on disk and verified, but not yet synced.

        Resumes what a former call left. Raises FetchError. Cancelled, it returns within about 2 s, and nothing writes
        to the folder any more; the journal stays.
        """
        root, journal = await self._in_thread(lambda: self._open(job))
        with self._cache.shared(job.size) as past_cache:
            shop = Workshop(
                root,
                self._flow.pool,
                self._flow.throttle,
                journal,
                progress,
                past_cache,
                job.room,
            )
            run = Run(
                files=job.files,
                origins=job.origins,
                ahead=job.ahead,
                key=job.key,
                shop=shop,
                flow=self._flow,
                pools=Pools(self._transfer_threads(), self._hashing, self._reading),
                part_size=self._part_size,
            )
            self._runs[id(run)] = run
            self._flow.copies = len(self._runs)
            try:
                return tuple(await run.run())
            finally:
                del self._runs[id(run)]
                self._flow.copies = len(self._runs)
                if not self._runs:
                    self._rest()

    def set_budget(self, budget: Budget) -> None:
        """Takes effect at once for the rate, and for connections with each next part."""
        self._flow.set_budget(budget)

    @property
    def busy(self) -> bool:
        """Whether anything is being fetched; may be asked from any thread."""
        return bool(self._runs)

    def figures(self) -> Figures:
        """For metrics; cheap."""
        return self._flow.figures(waiting=sum(run.waiting for run in self._runs.values()))

    def describe(self) -> dict[str, Any]:
        """For people: the budget, and what each fetch is at."""
        return {
            **self._flow.describe(),
            "fetches": [run.describe() for run in self._runs.values()],
        }

    async def close(self) -> None:
        """After all fetches have ended."""
        self._rest()
        self._flow.pool.close()
        self._hashing.shutdown(wait=False, cancel_futures=True)
        self._reading.shutdown(wait=False, cancel_futures=True)

    def _transfer_threads(self) -> Daemons:
        if self._threads is None:
            self._threads = Daemons(MOST_THREADS, name="transfer")
        return self._threads

    def _rest(self) -> None:
        """Threads and their buffers are not kept for a next copy that may be days away, nor is the pace of the last."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        self._flow.rest()

    @staticmethod
    def _open(job: FetchJob) -> tuple[int, Journal]:
        with disk_errors(f"staging folder of {job.key}"):
            job.folder.mkdir(parents=True, exist_ok=True)
            root = os.open(job.folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                return root, Journal(job.journal)
            except OSError:
                os.close(root)
                raise

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._hashing, function)
