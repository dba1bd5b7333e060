"""One cache's copies, node by node, and thousands of them in a few groups. Pure; trouble comes first."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.cli.pages.facts import CacheFacts, NodeFacts, Report
from controller.cli.pages.text import Style
from shared.api.cache import NodeState
from shared.domain.placement import Waiting
from shared.domain.reason_rows import Course
from shared.domain.reason_table import row
from shared.domain.reasons import Reason

SHOWN: Mapping[NodeState, str] = {
    NodeState.UNKNOWN: "Unknown",
    NodeState.NODE_NOT_READY: "NodeNotReady",
    NodeState.DOWNLOAD_PENDING: "Pending",
    NodeState.DOWNLOADING: "Downloading",
    NodeState.DOWNLOADED: "Downloaded",
    NodeState.DOWNLOAD_ERROR: "Failed",
}


@dataclass(frozen=True, slots=True)
class Copy:
    """`done`, `total` in bytes, `rate` in bytes per second."""

    node: str
    state: NodeState
    reason: str
    message: str
    done: int
    total: int
    rate: int | None = None
    attempts: int | None = None
    retry_at: datetime | None = None
    verified_by: str | None = None
    revision: str | None = None

    @property
    def seconds_left(self) -> float | None:
        if self.state is not NodeState.DOWNLOADING or not self.rate or not self.total:
            return None
        return max(self.total - self.done, 0) / self.rate

    @property
    def style(self) -> Style:
        if self.lost:
            return Style.WARN
        if self.state is NodeState.DOWNLOADED:
            return Style.GOOD
        return Style.PLAIN if rank(self) >= _rank_of(Course.MOVING) else _STYLES[self.state]

    @property
    def lost(self) -> bool:
        """Complete, on a node that is not Ready: nobody can use it."""
        return self.state is NodeState.DOWNLOADED and self.reason == Reason.NODE_NOT_READY


_STYLES = {
    NodeState.UNKNOWN: Style.BAD,
    NodeState.NODE_NOT_READY: Style.WARN,
    NodeState.DOWNLOAD_PENDING: Style.WARN,
    NodeState.DOWNLOADING: Style.PLAIN,
    NodeState.DOWNLOADED: Style.GOOD,
    NodeState.DOWNLOAD_ERROR: Style.BAD,
}
# What most needs somebody comes first.
_ORDER = (
    Course.STALLED,
    Course.WAITING,
    Course.RETRIED,
    Course.NOTICE,
    Course.MOVING,
    Course.FINE,
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Copies of one state and reason. `message`: the first node's."""

    copies: tuple[Copy, ...]

    @property
    def first(self) -> Copy:
        return self.copies[0]

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(copy.node for copy in self.copies)

    @property
    def done(self) -> int:
        return sum(copy.done for copy in self.copies)

    @property
    def total(self) -> int:
        return sum(copy.total for copy in self.copies)

    @property
    def rate(self) -> int:
        return sum(copy.rate or 0 for copy in self.copies)

    @property
    def seconds_left(self) -> float | None:
        """Until the last of them is done."""
        left = [copy.seconds_left for copy in self.copies]
        return max((s for s in left if s is not None), default=None)

    @property
    def retry_at(self) -> datetime | None:
        return min((c.retry_at for c in self.copies if c.retry_at is not None), default=None)

    @property
    def verified_by(self) -> str:
        return ", ".join(sorted({copy.verified_by for copy in self.copies if copy.verified_by}))


def copies(
    cache: CacheFacts,
    nodes: Mapping[str, NodeFacts] | None,
    waiting: Mapping[str, Waiting] | None = None,
    not_ready: Container[str] = (),
) -> list[Copy]:
    """Trouble first. nodes: None when they may not be read. waiting: why nodes that are not asked to hold it are not.

    not_ready: nodes that Kubernetes does not consider usable.
    """
    found = [
        _copy(
            cache,
            state,
            name,
            None if nodes is None else nodes.get(name),
            (waiting or {}).get(name),
            ready=name not in not_ready,
            readable=nodes is not None,
        )
        for name, state in cache.states.items()
    ]
    return sorted(found, key=lambda copy: (rank(copy), copy.node))


def not_placed(cache: CacheFacts, nodes: Mapping[str, NodeFacts]) -> list[str]:
    """Nodes that should hold it and whose work list does not have it."""
    return [
        name
        for name, state in cache.states.items()
        if state is NodeState.DOWNLOAD_PENDING
        and (name not in nodes or cache.key not in nodes[name].lines)
    ]


def has_lost(cache: CacheFacts) -> bool:
    """Whether the controller counts fewer copies as available than are complete: their nodes are not Ready."""
    complete = sum(state is NodeState.DOWNLOADED for state in cache.states.values())
    return complete > cache.copies.get("available", 0)


def bundles(found: Iterable[Copy]) -> list[Bundle]:
    """Trouble first, and of equal trouble the most frequent."""
    by_kind: dict[tuple[NodeState, str], list[Copy]] = {}
    for copy in found:
        by_kind.setdefault((copy.state, copy.reason), []).append(copy)
    made = [Bundle(tuple(group)) for group in by_kind.values()]
    return sorted(made, key=lambda b: (rank(b.first), -len(b.copies), b.first.reason))


def rank(copy: Copy) -> int:
    """0 is the worst."""
    known = row(copy.reason)
    if copy.state is NodeState.DOWNLOADED and not copy.lost:
        return _rank_of(Course.FINE)
    if copy.state is NodeState.DOWNLOAD_ERROR and (known is None or known.course is Course.MOVING):
        return _rank_of(Course.STALLED)
    return _rank_of(known.course if known else Course.MOVING)


def moving_rate(found: Sequence[Copy]) -> int:
    return sum(copy.rate or 0 for copy in found)


def _rank_of(course: Course) -> int:
    return _ORDER.index(course)


def _copy(
    cache: CacheFacts,
    state: NodeState,
    name: str,
    node: NodeFacts | None,
    waiting: Waiting | None,
    *,
    ready: bool,
    readable: bool,
) -> Copy:
    report = node.reports.get(cache.key) if node else None
    if report is not None and report.storage_key not in (None, cache.view.storage_key):
        report = None
    reason, message = _why(state, report, waiting, ready=ready, readable=readable)
    if state is NodeState.UNKNOWN:
        report = None  # an agent that is silent now: what it said last may be long past
    total = report.total if report and report.total is not None else cache.view.size
    done = total if state is NodeState.DOWNLOADED else (report.done or 0) if report else 0
    return Copy(
        node=name,
        state=state,
        reason=reason,
        message=message,
        done=min(done, total),
        total=total,
        rate=report.rate if report and state is NodeState.DOWNLOADING else None,
        attempts=report.attempts if report else None,
        retry_at=report.retry_at if report and state is NodeState.DOWNLOAD_ERROR else None,
        verified_by=report.verified_by if report and state is NodeState.DOWNLOADED else None,
        revision=report.revision if report else None,
    )


def _why(
    state: NodeState, report: Report | None, waiting: Waiting | None, *, ready: bool, readable: bool
) -> tuple[str, str]:
    said = (report.reason or "", report.message or "") if report else ("", "")
    match state:
        case NodeState.UNKNOWN if readable and report is None:
            return Reason.AGENT_MISSING.value, ""
        case NodeState.UNKNOWN:
            return Reason.AGENT_SILENT.value, ""
        case NodeState.NODE_NOT_READY:
            return Reason.NODE_NOT_READY.value, ""
        case NodeState.DOWNLOAD_PENDING:
            if waiting is not None:
                return waiting.reason.value, waiting.message
            return said[0] or Reason.PENDING.value, said[1]
        case NodeState.DOWNLOADING:
            return said[0] or Reason.DOWNLOADING.value, said[1]
        case NodeState.DOWNLOADED if not ready:
            return Reason.NODE_NOT_READY.value, ""
        case NodeState.DOWNLOADED:
            return Reason.PUBLISHED.value, said[1]
        case _:
            return said[0] or Reason.COPY_FAILED.value, said[1]
