"""World × cache → one assessment per node that should hold it. Pure."""

from dataclasses import dataclass

from controller.world import World
from shared.api.cache import NodeState
from shared.api.node import ModelState
from shared.domain.placement import EMPTY
from shared.domain.reason_rows import Course
from shared.domain.reason_table import TABLE, with_course
from shared.domain.reasons import Reason
from shared.domain.views import CacheView, NodeView, ReportView

# Failures that an agent tries again soon, with backoff; after any other, nothing moves before somebody acts.
RETRIED = with_course(Course.RETRIED)

_NODE_STATES = {
    ModelState.UNKNOWN: NodeState.DOWNLOAD_PENDING,
    ModelState.DOWNLOAD_PENDING: NodeState.DOWNLOAD_PENDING,
    ModelState.DOWNLOADING: NodeState.DOWNLOADING,
    ModelState.DOWNLOADED: NodeState.DOWNLOADED,
    ModelState.DOWNLOAD_ERROR: NodeState.DOWNLOAD_ERROR,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """State of one copy; `reason` is Available, or says why it is not."""

    state: NodeState
    reason: Reason
    message: str = ""
    moving: bool = False
    """Something is being done about it, without anybody's help."""
    blocked: bool = False
    """Somebody must act: free space, mend the source, the credentials or the group."""

    @property
    def told(self) -> str:
        """The message, else the reason in a sentence."""
        return self.message or TABLE[self.reason].sentence

    @property
    def available(self) -> bool:
        return self.reason is Reason.AVAILABLE


@dataclass(frozen=True, slots=True)
class Copy:
    node: str
    verdict: Verdict
    bytes_done: int
    bytes_total: int
    revision: str | None


def assess(world: World, cache: CacheView) -> list[Copy]:
    """Sorted by node."""
    return [copy_on(world, cache, name) for name in sorted(world.expected(cache))]


def copy_on(world: World, cache: CacheView, name: str) -> Copy:
    """On a node that should hold it."""
    report = report_of(world, cache, name)
    verdict = _verdict(world, cache, world.nodes[name], report)
    total = report.bytes_total if report else None
    if total is None:  # what another node found is a better guess than what was declared
        total = world.sizes.get(cache.key, cache.size)
    done = (report.bytes_done or 0) if report else 0
    return Copy(
        node=name,
        verdict=verdict,
        bytes_done=total if verdict.state is NodeState.DOWNLOADED else min(done, total),
        bytes_total=total,
        revision=report.revision if report else None,
    )


def report_of(world: World, cache: CacheView, name: str) -> ReportView | None:
    """What the node's agent says of it; what it says of another folder under this name, it says of an earlier cache."""
    work = world.works.get(name)
    report = work.reports.get(cache.key) if work else None
    if report is not None and report.storage_key not in (None, cache.storage_key):
        return None
    return report


def _verdict(world: World, cache: CacheView, node: NodeView, report: ReportView | None) -> Verdict:
    """First finding wins: what keeps the copy from being placed, then what keeps us from knowing, then what the agent says."""
    silent = node.name in world.silent
    if not node.ready and (report is None or silent):
        return Verdict(NodeState.NODE_NOT_READY, Reason.NODE_NOT_READY)
    waiting = world.placements.get(node.name, EMPTY).waiting.get(cache.key)
    if waiting is not None:
        return Verdict(NodeState.DOWNLOAD_PENDING, waiting.reason, waiting.message, blocked=True)
    if silent:
        return _unheard(report)
    if report is None or not world.answered(node.name, cache.key):
        return Verdict(NodeState.DOWNLOAD_PENDING, Reason.PENDING, moving=True)
    if report.state is ModelState.DOWNLOADED and not node.ready:
        return Verdict(NodeState.DOWNLOADED, Reason.NODE_NOT_READY)
    return _reported(report)


def _unheard(report: ReportView | None) -> Verdict:
    return Verdict(NodeState.UNKNOWN, Reason.AGENT_SILENT if report else Reason.AGENT_MISSING)


def _reported(report: ReportView) -> Verdict:
    state = _NODE_STATES[report.state]
    message = report.message or ""
    match report.state:
        case ModelState.DOWNLOADED:
            return Verdict(state, Reason.AVAILABLE)
        case ModelState.DOWNLOAD_ERROR:
            reason = known_reason(report.reason, Reason.COPY_FAILED)
            retried = reason in RETRIED
            return Verdict(state, reason, message, moving=retried, blocked=not retried)
        case ModelState.DOWNLOADING:
            return Verdict(
                state, known_reason(report.reason, Reason.DOWNLOADING), message, moving=True
            )
        case _:
            return Verdict(state, known_reason(report.reason, Reason.PENDING), message, moving=True)


def known_reason(text: str | None, default: Reason) -> Reason:
    """Agents of another version may have reasons of their own."""
    try:
        return Reason(text) if text else default
    except ValueError:
        return default
