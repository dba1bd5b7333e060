"""What changes of conditions and of nodes are worth telling. Pure, and silent when nothing changed: also after a restart."""

from collections.abc import Iterable, Sequence
from typing import Literal

from controller.actions import Announcement
from controller.planning.copies import known_reason
from shared.api.meta import Condition
from shared.api.node import ModelState
from shared.domain.quantity import human_bytes
from shared.domain.reason_rows import Course
from shared.domain.reason_table import TABLE, with_course
from shared.domain.reasons import Reason
from shared.domain.views import ReportView, WorkView

NAMED_COPIES = 5

# The ordinary course of things; any other reason asks for somebody's attention.
_NORMAL = with_course(Course.FINE, Course.MOVING)
_TOLD = ("Ready", "Servable")


def announce(
    before: Iterable[Condition], after: Sequence[Condition] | None
) -> tuple[Announcement, ...]:
    old = {condition.type: condition for condition in before}
    new = {condition.type: condition for condition in after or ()}
    return tuple(
        _announcement(new[type]) for type in _TOLD if _is_news(old.get(type), new.get(type))
    )


def _is_news(old: Condition | None, new: Condition | None) -> bool:
    if new is None:
        return False
    return old is None or (old.status, old.reason) != (new.status, new.reason)


def _announcement(condition: Condition) -> Announcement:
    reason = Reason(condition.reason)
    type: Literal["Normal", "Warning"] = "Normal" if reason in _NORMAL else "Warning"
    return Announcement(type, reason, condition.message)


def node_news(was: WorkView, now: WorkView) -> tuple[Announcement, ...]:
    """What became of the copies on a node, in one event of each kind however many they are."""
    if was.uid != now.uid:
        return ()
    before, wanted = ({line.key for line in work.entries} for work in (was, now))
    changed = {
        key: report
        for key, report in now.reports.items()
        if _turn(was.reports.get(key)) != _turn(report)
    }
    started = [key for key, r in changed.items() if r.state is ModelState.DOWNLOADING]
    done = [
        f"{key} ({human_bytes(r.bytes_total)})" if r.bytes_total is not None else key
        for key, r in changed.items()
        if r.state is ModelState.DOWNLOADED and key in wanted
    ]
    failed = {key: r for key, r in changed.items() if r.state is ModelState.DOWNLOAD_ERROR}
    removed = [key for key in was.reports if key not in now.reports]
    told = [
        Announcement("Normal", reason, f"{what} {_list(keys)}")
        for reason, what, keys in (
            (Reason.PLACED, "to be held here:", wanted - before),
            (Reason.DOWNLOADING, "downloading", started),
            (Reason.DOWNLOADED, "downloaded", done),
            (Reason.DELETED, "removed", removed),
        )
        if keys
    ]
    for reason in sorted({known_reason(r.reason, Reason.COPY_FAILED) for r in failed.values()}):
        keys = sorted(
            k for k, r in failed.items() if known_reason(r.reason, Reason.COPY_FAILED) is reason
        )
        message = f"{_list(keys)}: {failed[keys[0]].message or TABLE[reason].sentence}"
        told.append(Announcement("Warning", reason, message))
    return tuple(told)


def _turn(report: ReportView | None) -> tuple[object, ...]:
    """Of a failed copy also why: the same failure again is no news."""
    if report is None:
        return (None,)
    failed = report.state is ModelState.DOWNLOAD_ERROR
    return report.state, report.reason if failed else None


def _list(keys: Iterable[str]) -> str:
    ordered = sorted(keys)
    more = len(ordered) - NAMED_COPIES
    return ", ".join(ordered[:NAMED_COPIES]) + (f" and {more} more" if more > 0 else "")
