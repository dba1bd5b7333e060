"""What the node's status says: built from one snapshot, compared before it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent.planning.desired import Entry
from agent.planning.retry import Failure
from agent.planning.sync import Cause, fetch_cause
from agent.planning.world import Limits, Published, Work, World
from shared.api.meta import Condition
from shared.api.node import AgentInfo, LocalModelNodeStatus, ModelReport, ModelState, NodeStorage
from shared.domain.conditions import set_condition
from shared.domain.quantity import human_bytes
from shared.domain.reasons import Reason

STORAGE_READY = "StorageReady"

# Of a damaged tree so many paths are named; the rest is counted.
_NAMED_PATHS = 3


@dataclass(frozen=True, slots=True)
class CopyView:
    """What a fetch shows of itself, while it runs and after it failed. Bytes; rate in bytes per second."""

    phase: Reason
    total: int | None = None
    done: int | None = None
    rate: int | None = None
    revision: str | None = None
    started: datetime | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that the status is made of.

    evicting: keys that the last status listed and the work list no longer has, with their storage keys.
    on_disk: bytes by storage key, as the last status said.
    storage_problem: why the cache folder cannot be used; None when it can. leavings: what is wrong with it even so.
    """

    generation: int
    entries: Sequence[Entry]
    world: World
    limits: Limits
    agent: AgentInfo
    copies: Mapping[str, CopyView] = field(default_factory=dict)
    evicting: Mapping[str, str] = field(default_factory=dict)
    on_disk: Mapping[str, int] = field(default_factory=dict)
    storage: NodeStorage | None = None
    storage_problem: str | None = None
    leavings: str | None = None
    conditions: tuple[Condition, ...] = ()


def build_status(scene: Scene) -> LocalModelNodeStatus:
    """One report per entry of the work list, and one per copy that is being removed, sorted by key."""
    reports = {entry.key: _report(entry, scene) for entry in scene.entries}
    for key, storage_key in scene.evicting.items():
        reports.setdefault(key, _evicting(key, storage_key, scene))
    models = tuple(reports[key] for key in sorted(reports))
    problem = scene.storage_problem
    trouble = Reason.COPIES_UNREACHABLE if scene.world.copies_expected else Reason.STORAGE_NOT_READY
    return LocalModelNodeStatus(
        observed_generation=scene.generation,
        model_status={report.key: report.state for report in models},
        models=models,
        storage=scene.storage,
        agent=scene.agent,
        conditions=set_condition(
            scene.conditions,
            type=STORAGE_READY,
            status="True" if problem is None else "False",
            reason=Reason.STORAGE_READY if problem is None else trouble,
            message=problem or scene.leavings or "the cache folder can be used",
            now=scene.world.now.replace(microsecond=0),
            generation=scene.generation,
        ),
    )


def expects_copies(status: LocalModelNodeStatus) -> bool:
    """Whether the status says that copies are on the disk, or were when the disk could last be read."""
    return any(
        model.state is ModelState.DOWNLOADED or model.reason == Reason.REPAIRING
        for model in status.models or ()
    ) or any(
        condition.type == STORAGE_READY and condition.reason == Reason.COPIES_UNREACHABLE
        for condition in status.conditions or ()
    )


def bytes_on_disk(status: LocalModelNodeStatus) -> Mapping[str, int]:
    """By storage key, where the status says it."""
    return {
        model.storage_key: there
        for model in status.models or ()
        if (there := model.bytes_total if _leaves(model) else model.bytes_done) is not None
    }


def _leaves(model: ModelReport) -> bool:
    return model.reason == Reason.EVICTING


def still_evicting(
    before: Mapping[str, str], entries: Sequence[Entry], world: World
) -> Mapping[str, str]:
    """Which of the keys that were listed must stay listed: their bytes are not gone from the disk yet.

    Trees that nobody listed (the status was lost) stand under their storage key.
    """
    if world.desired is None:
        return before
    wanted = {entry.key for entry in entries}
    here = {
        *world.disk.published,
        *world.disk.staged,
        *world.running,
    } - world.desired.keys()
    listed = {
        key: storage_key
        for key, storage_key in before.items()
        if key not in wanted and storage_key in here
    }
    unnamed = here - set(listed.values())
    return listed | {key: key for key in unnamed if key not in wanted}


def _report(entry: Entry, scene: Scene) -> ModelReport:
    world = scene.world
    key = entry.storage_key
    wanted = (world.desired or {}).get(key)
    running = world.running.get(key)
    copy = scene.copies.get(key)
    failure = world.failures.get(key)
    refusal = world.refusals.get(key, {}).get(entry.access)
    if scene.storage_problem is not None or wanted is None:
        return _pending(entry, Reason.STORAGE_NOT_READY, scene.storage_problem)
    cause = fetch_cause(world, wanted, scene.limits)
    published = world.disk.published.get(key)
    granted = entry.access in world.granted.get(key, frozenset())
    if refusal is not None and not granted:
        return _failed(entry, refusal, None)
    if published is not None and cause in (None, Cause.ACCESS) and granted:
        return _downloaded(entry, published, copy)
    if running is not None and running.work is Work.FETCH and copy is not None:
        damaged = world.disk.damaged.get(key, ()) if cause is Cause.DAMAGED else ()
        return _downloading(entry, copy, failure, damaged)
    if failure is not None and failure.fingerprint == wanted.fingerprint:
        return _failed(entry, failure, copy)
    if running is not None and running.work is Work.EVICT:
        return _pending(entry, Reason.QUEUED, "an earlier copy is being removed first")
    return _pending(entry, Reason.QUEUED, "waits for its turn")


def _pending(entry: Entry, reason: Reason, message: str | None) -> ModelReport:
    return ModelReport(
        key=entry.key,
        storage_key=entry.storage_key,
        state=ModelState.DOWNLOAD_PENDING,
        reason=reason,
        message=message,
    )


def _downloading(
    entry: Entry, copy: CopyView, failure: Failure | None, damaged: tuple[str, ...]
) -> ModelReport:
    message = f"repairs {_some(damaged)}" if damaged else _oversize(entry, copy.total)
    return ModelReport(
        key=entry.key,
        storage_key=entry.storage_key,
        state=ModelState.DOWNLOADING,
        reason=Reason.REPAIRING if damaged else copy.phase,
        message=message,
        revision=copy.revision,
        bytes_total=copy.total,
        bytes_done=copy.done,
        bytes_per_second=copy.rate,
        attempts=(failure.attempts if failure else 0) + 1,
        start_time=copy.started,
    )


def _downloaded(entry: Entry, published: Published, copy: CopyView | None) -> ModelReport:
    count = f"{published.files} file" + ("" if published.files == 1 else "s")
    size = human_bytes(published.size)
    return ModelReport(
        key=entry.key,
        storage_key=entry.storage_key,
        state=ModelState.DOWNLOADED,
        reason=Reason.PUBLISHED,
        message=_oversize(entry, published.size) or f"{count}, {size}",
        revision=published.revision,
        bytes_total=published.size,
        bytes_done=published.size,
        start_time=copy.started if copy else None,
        completion_time=published.published_at.replace(microsecond=0),
        verified_by=published.verified_by,
    )


def _failed(entry: Entry, failure: Failure, copy: CopyView | None) -> ModelReport:
    return ModelReport(
        key=entry.key,
        storage_key=entry.storage_key,
        state=ModelState.DOWNLOAD_ERROR,
        reason=failure.reason,
        message=failure.message,
        revision=copy.revision if copy else None,
        bytes_total=copy.total if copy else None,
        bytes_done=copy.done if copy else None,
        attempts=failure.attempts,
        start_time=copy.started if copy else None,
        next_retry_time=failure.next_try.replace(microsecond=0),
    )


def _evicting(key: str, storage_key: str, scene: Scene) -> ModelReport:
    """Its bytes are what was there when the removal began: how many of them are gone nobody counts."""
    published = scene.world.disk.published.get(storage_key)
    there = published.size if published else scene.on_disk.get(storage_key)
    failure = scene.world.failures.get(storage_key)
    trouble = failure is not None and failure.fingerprint is None
    return ModelReport(
        key=key,
        storage_key=storage_key,
        state=ModelState.UNKNOWN,
        reason=Reason.EVICTING,
        message=failure.message if failure and trouble else "is being removed",
        bytes_total=there,
        next_retry_time=failure.next_try.replace(microsecond=0) if failure and trouble else None,
    )


def _oversize(entry: Entry, total: int | None) -> str | None:
    if total is None or entry.declared is None or total <= entry.declared:
        return None
    return f"{human_bytes(total)}, more than the declared {human_bytes(entry.declared)}"


def _some(paths: tuple[str, ...]) -> str:
    named = ", ".join(repr(path) for path in paths[:_NAMED_PATHS])
    more = len(paths) - _NAMED_PATHS
    return named + (f" and {more} more" if more > 0 else "")
