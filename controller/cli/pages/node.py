"""`node NODE`: its disk, what is on it and on its way, what nobody asked for, what happened last. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controller.cli.pages.copies import SHOWN
from controller.cli.pages.facts import NodeFacts, Report, moment
from controller.cli.pages.text import (
    Cell,
    Line,
    Span,
    Style,
    ago,
    bar,
    counted,
    line,
    percent,
    rate,
    size,
    span_of,
    table,
    until,
)
from shared.api.cache import NodeState
from shared.api.node import ModelState
from shared.domain.reason_rows import Course
from shared.domain.reason_table import row

_STATES = {
    ModelState.UNKNOWN: ("Removing", Style.DIM),
    ModelState.DOWNLOAD_PENDING: (SHOWN[NodeState.DOWNLOAD_PENDING], Style.PLAIN),
    ModelState.DOWNLOADING: (SHOWN[NodeState.DOWNLOADING], Style.PLAIN),
    ModelState.DOWNLOADED: (SHOWN[NodeState.DOWNLOADED], Style.GOOD),
    ModelState.DOWNLOAD_ERROR: (SHOWN[NodeState.DOWNLOAD_ERROR], Style.BAD),
}
_ORDER = (
    ModelState.DOWNLOAD_ERROR,
    ModelState.DOWNLOADING,
    ModelState.DOWNLOAD_PENDING,
    ModelState.UNKNOWN,
    ModelState.DOWNLOADED,
)
_EVENTS = 10


@dataclass(frozen=True, slots=True)
class Happening:
    """An event about the node that one of our programs told."""

    when: datetime | None
    warning: bool
    reason: str
    message: str
    count: int


def page(
    node: NodeFacts,
    *,
    ready: bool | None,
    events: Sequence[Happening] | None,
    now: datetime,
) -> list[Line]:
    """ready, events: None when they may not be read."""
    lines = [
        line(
            Span(node.name, Style.HEAD), _condition(ready), "  ", Span(_agent(node, now), Style.DIM)
        )
    ]
    lines += _disk(node)
    storage = node.conditions.get("StorageReady")
    if storage is not None and storage.status != "True":
        lines.append(line(Span(f"{storage.reason}: {storage.message}", Style.BAD)))
    behind = node.observed is not None and node.observed < node.generation
    if behind or (node.observed is None and node.version is None):
        text = "the agent has not answered to the latest work list yet"
        lines.append(line(Span(text[0].upper() + text[1:] + ".", Style.WARN)))
    lines.append(line(""))
    lines += _models(node, now)
    lines += _orphans(node)
    if events is None:
        lines += [line(""), line(Span("Events are not shown: you may not list them.", Style.DIM))]
    elif events:
        lines += [line(""), *_events(events, now)]
    return lines


def happenings(raw: Sequence[Mapping[str, Any]]) -> list[Happening]:
    """Of core/v1 Events those whose reason is one of ours; the latest first."""
    found = [
        Happening(
            when=_latest(event),
            warning=event.get("type") == "Warning",
            reason=str(event.get("reason")),
            message=str(event.get("message") or ""),
            count=_count(event),
        )
        for event in raw
        if row(str(event.get("reason"))) is not None
        and str(_source(event)).startswith("localmodel-")
    ]
    return sorted(found, key=lambda one: one.when.timestamp() if one.when else 0.0, reverse=True)


def _source(event: Mapping[str, Any]) -> object:
    return event.get("reportingComponent") or (event.get("source") or {}).get("component")


def _latest(event: Mapping[str, Any]) -> datetime | None:
    series = event.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
        (event.get("metadata") or {}).get("creationTimestamp"),
    )
    return next((found for text in times if (found := moment(text)) is not None), None)


def _count(event: Mapping[str, Any]) -> int:
    found = (event.get("series") or {}).get("count") or event.get("count") or 1
    return found if isinstance(found, int) else 1


def _condition(ready: bool | None) -> Cell:
    if ready is None:
        return ""
    return Span("  Ready", Style.GOOD) if ready else Span("  NotReady", Style.BAD)


def _agent(node: NodeFacts, now: datetime) -> str:
    if node.version is None:
        return "no agent has answered"
    since = f", running for {ago(node.started, now)}" if node.started else ""
    return f"agent {node.version}{since}" + (f", folder {node.host_path}" if node.host_path else "")


def _disk(node: NodeFacts) -> list[Line]:
    if node.capacity is None or node.available is None or node.used is None or node.capacity <= 0:
        return [line(Span("Nothing is known of its disk: no agent has reported it.", Style.WARN))]
    used = node.capacity - node.available
    others = max(used - node.used, 0)
    share = used / node.capacity
    style = Style.BAD if share > 0.95 else Style.WARN if share > 0.85 else Style.PLAIN
    coming = f", {size(node.reserved)} still to be written" if node.reserved else ""
    return [
        line(
            "Disk  ",
            Span(bar(share), style),
            f"  {percent(used, node.capacity)} of {size(node.capacity)}: models {size(node.used)}, "
            f"others {size(others)}, free {size(node.available)}{coming}",
        )
    ]


def _models(node: NodeFacts, now: datetime) -> list[Line]:
    wanted = [
        node.reports.get(key) or Report(key, ModelState.DOWNLOAD_PENDING) for key in node.lines
    ]
    if not wanted:
        return [line("Its work list is empty.")]
    rows = [_model_row(report, now) for report in sorted(wanted, key=_urgency)]
    head = (
        "MODEL",
        "STATE",
        "REASON",
        "SIZE",
        "DONE",
        "RATE",
        "LEFT",
        "VERIFIED",
        "SINCE",
        "NEXT TRY",
    )
    return table((*head, "MESSAGE"), rows)


def _urgency(report: Report) -> tuple[int, bool, str]:
    known = row(report.reason)
    soon = known is not None and known.course is Course.RETRIED
    return _ORDER.index(report.state), soon, report.key


def _model_row(report: Report, now: datetime) -> list[Cell]:
    state, style = _STATES[report.state]
    done, total = report.done or 0, report.total or 0
    moving = report.state is ModelState.DOWNLOADING
    left = (total - done) / report.rate if moving and report.rate and total else None
    return [
        report.key,
        Span(state, style),
        report.reason or "",
        size(report.total),
        percent(done, total),
        rate(report.rate) if moving else "",
        "" if left is None else span_of(left),
        report.verified_by or "",
        ago(report.completed or report.started, now),
        until(report.retry_at, now),
        Span(report.message or "", Style.DIM),
    ]


def _orphans(node: NodeFacts) -> list[Line]:
    """What is on the disk and on no list any more."""
    left = sorted(report.key for report in node.reports.values() if report.key not in node.lines)
    if not left:
        return []
    rows = []
    for key in left:
        report = node.reports[key]
        rows.append(
            (
                key,
                report.storage_key or "",
                size(report.done),
                Span(report.message or "", Style.DIM),
            )
        )
    title = f"On the disk, and no longer on the list ({counted(len(left), 'model')}; the agent removes them):"
    return [line(""), line(title), *table(("MODEL", "FOLDER", "SIZE", "MESSAGE"), rows)]


def _events(events: Sequence[Happening], now: datetime) -> list[Line]:
    rows = [
        (
            f"{ago(one.when, now)} ago" if one.when else "",
            Span(one.reason, Style.WARN if one.warning else Style.PLAIN),
            f"{one.count} times" if one.count > 1 else "",
            Span(one.message, Style.DIM),
        )
        for one in events[:_EVENTS]
    ]
    return table(("LAST EVENTS", "REASON", "", "MESSAGE"), rows)
