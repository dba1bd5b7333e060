"""World × cache → its status. Pure; conditions as kstatus reads them: exactly one of Ready, Reconciling, Stalled is True."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from controller.planning.copies import RETRIED, Copy, assess
from controller.planning.volumes import servable
from controller.serving import INFERENCE_SERVICE, LLM_INFERENCE_SERVICE
from controller.world import World
from shared.api.cache import CacheProgress, CacheStatus, Copies, NamespacedName, NodeState
from shared.api.meta import Condition
from shared.domain.conditions import set_condition
from shared.domain.quantity import MAX, human_bytes
from shared.domain.reasons import Reason
from shared.domain.views import CacheView

NAMED_NODES = 3  # enough to start looking, short enough for a line of `kubectl get`

# Of several nodes' reasons the one that most needs somebody's attention speaks for the cache.
_PRECEDENCE = (
    Reason.NO_SPACE,
    Reason.PATH_MISMATCH,
    Reason.AGENT_SILENT,
    Reason.AGENT_MISSING,
    Reason.NODE_NOT_READY,
)


@dataclass(frozen=True, slots=True)
class Summary:
    """What the three conditions say together."""

    ready: bool
    stalled: bool
    reason: Reason
    message: str


def plan_cache_status(world: World, cache: CacheView, *, now: datetime) -> CacheStatus:
    copies = assess(world, cache)
    revision = choose_revision(world, cache, copies)
    summary = summarise(cache, copies, complaints(world, cache), revision)
    real = world.sizes.get(cache.key, 0)
    if real > cache.size:
        sizes = f"the model takes {human_bytes(real)}, modelSize says {human_bytes(cache.size)}"
        summary = replace(summary, message=f"{summary.message}; {sizes}")
    return _status(world, cache, copies, summary, revision, now=now)


def plan_deleting_status(
    world: World, cache: CacheView, waiting: Sequence[str], *, now: datetime
) -> CacheStatus:
    """While nodes have still to confirm that the bytes are gone, the status shows these nodes only."""
    left = [copy for copy in assess(world, cache) if copy.node in waiting]
    message = f"waiting for {names(waiting)} to remove the copy" if waiting else "removing copies"
    summary = Summary(ready=False, stalled=False, reason=Reason.DELETING, message=message)
    return _status(world, cache, left, summary, cache.revision, now=now)


def complaints(world: World, cache: CacheView) -> list[tuple[Reason, str]]:
    """What is wrong with the cache whatever its nodes say."""
    found = [(Reason.INVALID_SPEC, cache.defect)] if cache.defect else []
    missing = [name for name in cache.groups if name not in world.groups]
    if missing:
        found.append((Reason.NODE_GROUP_NOT_FOUND, f"node group {names(missing)} does not exist"))
    for name in cache.groups:
        group = world.groups.get(name)
        if group is not None and group.defect:
            found.append((Reason.INVALID_SPEC, f"node group {name}: {group.defect}"))
    return found


def choose_revision(world: World, cache: CacheView, copies: Iterable[Copy]) -> str | None:
    """Once chosen it stays: what the cache, or an older one of the same folder, has; else what most nodes resolved."""
    pinned = world.revision(cache)
    if pinned is not None:
        return pinned
    votes = Counter(copy.revision for copy in copies if copy.revision is not None)
    return min(votes, key=lambda revision: (-votes[revision], revision)) if votes else None


def summarise(
    cache: CacheView,
    copies: Sequence[Copy],
    wrong: Sequence[tuple[Reason, str]],
    revision: str | None,
) -> Summary:
    total = len(copies)
    available = sum(copy.verdict.available for copy in copies)
    moving = any(copy.verdict.moving for copy in copies)
    blocked = bool(wrong) or any(copy.verdict.blocked for copy in copies)
    count = f"{available} of {total} copies available"
    if wrong:
        reason, message = wrong[0][0], "; ".join(text for _, text in wrong)
        return Summary(False, not moving, reason, f"{message}; {count}" if total else message)
    if total == 0:
        message = f"no node belongs to node group {names(cache.groups)}"
        return Summary(False, False, Reason.NO_NODES, message)
    if available == total:
        skewed = [c.node for c in copies if c.revision is not None and c.revision != revision]
        if skewed:
            message = f"{count}; {names(skewed)} found another revision than {revision}"
            return Summary(True, False, Reason.REVISION_SKEW, message)
        return Summary(True, False, Reason.AVAILABLE, count)
    reason, message = _worst(copies)
    return Summary(False, blocked and not moving, reason, f"{count}; {message}")


def names(nodes: Sequence[str]) -> str:
    """`a, b, c and 4 more`."""
    ordered = sorted(nodes)
    more = len(ordered) - NAMED_NODES
    shown = ", ".join(ordered[:NAMED_NODES])
    return f"{shown} and {more} more" if more > 0 else shown


def _worst(copies: Sequence[Copy]) -> tuple[Reason, str]:
    """The reason that speaks for the cache, with the first node's message."""
    lacking = [copy for copy in copies if not copy.verdict.available]
    worst = min(lacking, key=lambda copy: (_rank(copy), copy.node)).verdict
    if worst.state is not NodeState.DOWNLOAD_ERROR and worst.reason not in _PRECEDENCE:
        downloading = sum(copy.verdict.state is NodeState.DOWNLOADING for copy in lacking)
        pending = len(lacking) - downloading
        counts = {"downloading": downloading, "pending": pending}
        return Reason.PROGRESSING, ", ".join(f"{n} {what}" for what, n in counts.items() if n)
    same = [copy.node for copy in lacking if copy.verdict.reason is worst.reason]
    return worst.reason, f"{names(same)}: {worst.told}"


def _rank(copy: Copy) -> int:
    verdict = copy.verdict
    if verdict.state is NodeState.DOWNLOAD_ERROR:
        return len(_PRECEDENCE) + 1 if verdict.reason in RETRIED else 0
    if verdict.reason in _PRECEDENCE:
        return _PRECEDENCE.index(verdict.reason) + 1
    return len(_PRECEDENCE) + 2


def _status(
    world: World,
    cache: CacheView,
    copies: Sequence[Copy],
    summary: Summary,
    revision: str | None,
    *,
    now: datetime,
) -> CacheStatus:
    done, total = sum(c.bytes_done for c in copies), sum(c.bytes_total for c in copies)
    return CacheStatus(
        observed_generation=cache.generation,
        copies=_count(copies),
        node_status={copy.node: copy.verdict.state for copy in copies},
        progress=CacheProgress(
            bytes_done=min(done, MAX),
            bytes_total=min(total, MAX),
            percent=done * 100 // total if total else 0,
        )
        if copies
        else None,
        revision=revision,
        conditions=conditions(world, cache, summary, now=now),
        **users(world, cache),
    )


def users(world: World, cache: CacheView) -> dict[str, Any]:
    """Services by field of the status; what cannot be seen now stays as it was, and protects the cache from deletion."""
    services = world.serving.services(cache.key)
    found: dict[str, Any] = {}
    for kind, field in (
        (INFERENCE_SERVICE, "inferenceServices"),
        (LLM_INFERENCE_SERVICE, "llmInferenceServices"),
    ):
        if kind in world.serving.known:
            found[field] = (
                tuple(
                    NamespacedName(namespace=s.namespace, name=s.name)
                    for s in services
                    if s.kind == kind
                )
                or None
            )
        else:
            found[field] = cache.users.get(field)
    return found


def _count(copies: Sequence[Copy]) -> Copies:
    states = Counter(copy.verdict.state for copy in copies)
    return Copies(
        available=sum(copy.verdict.available for copy in copies),
        total=len(copies),
        failed=states[NodeState.DOWNLOAD_ERROR],
        downloading=states[NodeState.DOWNLOADING],
        pending=states[NodeState.DOWNLOAD_PENDING] + states[NodeState.NODE_NOT_READY],
    )


def conditions(
    world: World, cache: CacheView, summary: Summary, *, now: datetime
) -> tuple[Condition, ...]:
    """Servable stays as it was while services, or whether volumes are ours, cannot be seen."""
    found: tuple[Condition, ...] = cache.conditions
    told = [
        (type_, holds, summary.reason, summary.message)
        for type_, holds in (
            ("Ready", summary.ready),
            ("Reconciling", not summary.ready and not summary.stalled),
            ("Stalled", summary.stalled),
        )
    ]
    serves = servable(world, cache)
    if serves is not None and world.serving.seen:
        told.append(("Servable", *serves))
    elif world.serving.seen:
        found = tuple(condition for condition in found if condition.type != "Servable")
    for type_, holds, reason, message in told:
        found = set_condition(
            found,
            type=type_,
            status="True" if holds else "False",
            reason=reason,
            message=message,
            now=now,
            generation=cache.generation,
        )
    return found
