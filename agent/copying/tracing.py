"""What a trace tells of a copy."""

from agent.copying.progress import CopyWatch
from agent.planning.desired import Wanted
from agent.storage.tree import Tree
from shared.domain.reasons import Reason
from shared.domain.uri import redact
from shared.ops.tracing import Traces


def trace_copy(
    traces: Traces,
    wanted: Wanted,
    watch: CopyWatch,
    *,
    tree: Tree | None = None,
    reason: Reason | None = None,
) -> None:
    """One span per attempt, and one per step of it. tree: what was published; reason: why it failed; neither = it was stopped."""
    ended = "published" if tree else "failed" if reason else "stopped"
    attributes: dict[str, str | int] = {
        "localmodel.key": wanted.storage_key,
        "localmodel.uri": redact(wanted.uri),
        "localmodel.outcome": ended,
        "localmodel.bytes": tree.size if tree else watch.done,
        "localmodel.moved": watch.moved,
    }
    if tree is not None:
        attributes["localmodel.verifiedBy"] = tree.verified_by.value
    if reason is not None:
        attributes["localmodel.reason"] = reason.value
    traces.record("copy", watch.steps, began=watch.began, attributes=attributes, error=reason)
