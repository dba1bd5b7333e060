"""Desired × on disk × in flight × failures × now: what to do with each storage key."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agent.planning.desired import Wanted
from agent.planning.retry import is_due
from agent.planning.world import Limits, Running, Work, World


class Cause(StrEnum):
    """Why a tree has to be fetched, or fetched again."""

    MISSING = "missing"
    DAMAGED = "damaged"
    SELECTION = "selection"
    REVISION = "revision"
    ACCESS = "access"


@dataclass(frozen=True, slots=True)
class Fetch:
    """Make the tree complete; what is there and good is not fetched again."""

    wanted: Wanted
    cause: Cause


@dataclass(frozen=True, slots=True)
class Adopt:
    """A folder that we did not publish lies where the tree belongs: take it over when it equals the source, else
    fetch."""

    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Verify:
    """Look whether the published tree is still what was published."""

    storage_key: str


@dataclass(frozen=True, slots=True)
class Evict:
    """Delete the tree and everything unfinished of it."""

    storage_key: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop what runs for this key; the next pass decides anew once it has ended."""

    storage_key: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing now. `until`: when a failed copy is due again; None = until a running copy ends."""

    storage_key: str
    until: datetime | None = None


Decision = Fetch | Adopt | Verify | Evict | Cancel | Wait


def sync(world: World, limits: Limits) -> tuple[Decision, ...]:
    """Decisions for this pass; at most one per storage key, none for keys that are as they should be.

    Without a work list nothing is decided at all. Only a key that a present work list omits is evicted.
    """
    if world.desired is None:
        return ()
    desired = world.desired
    decisions: list[Decision] = []
    ready: list[tuple[Wanted, Cause]] = []
    for key, wanted in desired.items():
        if key in world.running:
            if is_outdated(world.running[key], wanted):
                decisions.append(Cancel(key))
            continue
        cause = fetch_cause(world, wanted, limits)
        if cause is None:
            continue
        failure = world.failures.get(key)
        if failure is not None and not is_due(
            failure, wanted.fingerprint, now=world.now, policy=limits.retry
        ):
            decisions.append(Wait(key, failure.next_try))
        else:
            ready.append((wanted, cause))
    decisions.extend(_unwanted(world))
    decisions.extend(_admit(world, ready, limits))
    taken = {_key(decision) for decision in decisions}
    decisions.extend(_verify(world, taken, limits))
    return tuple(decisions)


def fetch_cause(world: World, wanted: Wanted, limits: Limits) -> Cause | None:
    """Why the tree on disk does not answer the work list; None when it does."""
    key = wanted.storage_key
    published = world.disk.published.get(key)
    if published is None or published.uri != wanted.uri:
        return Cause.MISSING
    if world.disk.damaged.get(key):
        return Cause.DAMAGED
    if published.selections != wanted.selections:
        return Cause.SELECTION
    if wanted.revision not in (None, published.revision, world.settled.get(key)):
        return Cause.REVISION
    granted = world.granted.get(key, frozenset())
    refusals = world.refusals.get(key, {})
    for access in wanted.accesses:
        refusal = refusals.get(access)
        if access not in granted and (
            refusal is None
            or is_due(refusal, wanted.fingerprint, now=world.now, policy=limits.retry)
        ):
            return Cause.ACCESS
    return None


def is_outdated(running: Running, wanted: Wanted) -> bool:
    """Whether a fetch in flight works towards something that is no longer wanted.

    A revision that the fetch has itself resolved, or that its source could not serve anyway, is no reason to stop.
    """
    started = running.fingerprint
    if running.work is not Work.FETCH or started is None:
        return False
    if started.selections != wanted.selections:
        return True
    if not set(wanted.accesses) & set(started.accesses):
        return True
    if wanted.revision in (None, started.revision):
        return False
    return running.revision is not None and running.pinned and running.revision != wanted.revision


def next_due(world: World, limits: Limits) -> datetime | None:
    """When `sync` could decide something new without an event: the next retry or look at the disk.

    What is due already and was not started waits for a task to end, which is an event.
    """
    if world.desired is None:
        return None
    times: list[datetime] = []
    for key, wanted in world.desired.items():
        if key in world.running:
            continue
        if key in world.failures:
            times.append(world.failures[key].next_try)
        refusals = world.refusals.get(key, {})
        times.extend(refusals[access].next_try for access in wanted.accesses if access in refusals)
        if key in world.disk.published and key in world.disk.checked:
            times.append(world.disk.checked[key] + limits.check_every)
    times.extend(
        failure.next_try for key, failure in world.failures.items() if key not in world.desired
    )
    return min((time for time in times if time > world.now), default=None)


def _unwanted(world: World) -> Iterator[Decision]:
    desired = world.desired or {}
    for key in sorted({*world.disk.published, *world.disk.staged, *world.running} - desired.keys()):
        running = world.running.get(key)
        failure = world.failures.get(key)
        if running is not None:
            if running.work is not Work.EVICT:
                yield Cancel(key)
        elif failure is not None and failure.fingerprint is None and world.now < failure.next_try:
            yield Wait(key, failure.next_try)
        else:
            yield Evict(key)


def _admit(world: World, ready: list[tuple[Wanted, Cause]], limits: Limits) -> Iterator[Decision]:
    """Free places go to repairs first, then to copies that have failed least, then by the order of the list."""

    def turn(item: tuple[Wanted, Cause]) -> tuple[bool, int]:
        wanted, cause = item
        failure = world.failures.get(wanted.storage_key)
        return cause is not Cause.DAMAGED, failure.attempts if failure else 0

    busy = sum(running.work is Work.FETCH for running in world.running.values())
    for place, (wanted, cause) in enumerate(sorted(ready, key=turn)):
        if place >= limits.parallel - busy:
            yield Wait(wanted.storage_key)
        elif cause is Cause.MISSING and wanted.storage_key in world.disk.foreign:
            yield Adopt(wanted)
        else:
            yield Fetch(wanted, cause)


def _verify(world: World, taken: set[str], limits: Limits) -> Iterator[Decision]:
    """Published trees whose last look is oldest, a few at a time."""
    places = limits.verifies - sum(r.work is Work.VERIFY for r in world.running.values())
    due = [
        (checked is not None, checked or world.now, key)
        for key in world.disk.published
        if key not in taken and key not in world.running
        for checked in (world.disk.checked.get(key),)
        if checked is None or not _recent(checked, world.now, limits)
    ]
    for _, _, key in sorted(due)[: max(places, 0)]:
        yield Verify(key)


def _recent(checked: datetime, now: datetime, limits: Limits) -> bool:
    """Whether the last look is recent; one that lies in the future (the clock was set back) is not."""
    return checked <= now < checked + limits.check_every


def _key(decision: Decision) -> str:
    match decision:
        case Fetch(wanted, _) | Adopt(wanted):
            return wanted.storage_key
        case Verify(key) | Evict(key) | Cancel(key) | Wait(key, _):
            return key
