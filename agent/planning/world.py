"""What the planners see of the node: one frozen snapshot per pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from agent.planning.desired import Access, Fingerprint, Wanted
from agent.planning.retry import Failure, RetryPolicy
from shared.domain.patterns import Selections


@dataclass(frozen=True, slots=True)
class Published:
    """A tree that readers see. `size`: bytes of its files."""

    storage_key: str
    uri: str
    revision: str
    selections: Selections
    size: int
    files: int
    published_at: datetime
    verified_by: str


class Work(StrEnum):
    """What a running task does; at most one per storage key."""

    FETCH = "fetch"
    VERIFY = "verify"
    EVICT = "evict"


@dataclass(frozen=True, slots=True)
class Running:
    """A task in flight. `revision`: what its source resolved to, once it has; `pinned`: whether asking for another
    revision could give other bytes."""

    work: Work
    fingerprint: Fingerprint | None = None
    revision: str | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Disk:
    """staged: keys with unfinished files; foreign: wanted-looking folders that we did not publish;
    damaged: paths that the last look found wrong; checked: when that look was."""

    published: Mapping[str, Published] = field(default_factory=dict)
    staged: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    damaged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    checked: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """parallel: fetches at a time; verifies: looks at the disk at a time, so that idle disks stay idle."""

    parallel: int = 4
    verifies: int = 1
    check_every: timedelta = timedelta(seconds=60)
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True)
class World:
    """desired: None when there is no work list (unknown: keep everything).

    granted: accesses whose right to the bytes the source has confirmed; refusals: those it has not.
    settled: the revision of the work list that a published tree answers, also where the source cannot pin.
    copies_expected: copies are on the disk, or were when it could last be read.
    """

    now: datetime
    desired: Mapping[str, Wanted] | None
    disk: Disk = Disk()
    running: Mapping[str, Running] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)
    granted: Mapping[str, frozenset[Access]] = field(default_factory=dict)
    refusals: Mapping[str, Mapping[Access, Failure]] = field(default_factory=dict)
    settled: Mapping[str, str] = field(default_factory=dict)
    copies_expected: bool = False
