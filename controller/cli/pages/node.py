"""`node NODE`: its disk, what is on it and on its way, what nobody asked for, what happened last. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.cli.pages.copies import SHOWN
from controller.cli.pages.events import Happening, table_of
from controller.cli.pages.facts import CacheFacts, NodeFacts, Report
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


@dataclass(frozen=True, slots=True)
class Silence:
    """The agent gives no sign of life; `since`: its last one, None when that is not known."""

    since: datetime | None


def page(
    node: NodeFacts,
    *,
    ready: bool | None,
    events: Sequence[Happening] | None,
    silence: Silence | None,
    now: datetime,
) -> list[Line]:
    """ready, events: None when they may not be read. silence: None while the agent lives, as far as caches say."""
    lines = [
        line(
            Span(node.name, Style.HEAD), _condition(ready), "  ", Span(_agent(node, now), Style.DIM)
        )
    ]
    if silence is not None:
        lines.append(line(Span(_silent(silence, now), Style.BAD)))
    lines += _disk(node)
    storage = node.conditions.get("StorageReady")
    if storage is not None and storage.status != "True":
        lines.append(line(Span(f"{storage.reason}: {storage.message}", Style.BAD)))
    behind = node.observed is not None and node.observed < node.generation
    if behind or (node.observed is None and node.version is None):
        text = "the agent has not answered to the latest work list yet"
        lines.append(line(Span(text[0].upper() + text[1:] + ".", Style.WARN)))
    lines.append(line(""))
    lines += _models(node, now, live=silence is None)
    lines += _orphans(node)
    if events is None:
        lines += [line(""), line(Span("Events are not shown: you may not list them.", Style.DIM))]
    elif events:
        lines += [line(""), *table_of(events, now)]
    return lines


def is_silent(node: NodeFacts, caches: Iterable[CacheFacts]) -> bool:
    """Whether the controller hears nothing from the node's agent: it sets aside what that said, as the caches' statuses show."""
    for cache in caches:
        state, report = cache.states.get(node.name), node.reports.get(cache.key)
        known = report is not None and report.storage_key in (None, cache.view.storage_key)
        if state is NodeState.UNKNOWN or (known and state is NodeState.NODE_NOT_READY):
            return bool(node.reports or node.version)
    return False


def _condition(ready: bool | None) -> Cell:
    if ready is None:
        return ""
    return Span("  Ready", Style.GOOD) if ready else Span("  NotReady", Style.BAD)


def _agent(node: NodeFacts, now: datetime) -> str:
    if node.version is None:
        return "no agent has answered"
    since = f", running for {ago(node.started, now)}" if node.started else ""
    return f"agent {node.version}{since}" + (f", folder {node.host_path}" if node.host_path else "")


def _silent(silence: Silence, now: datetime) -> str:
    since = f" for {ago(silence.since, now)}" if silence.since else ""
    return f"Its agent has been silent{since}: what follows is what it said last, and may be long past."


def _disk(node: NodeFacts) -> list[Line]:
    if node.capacity is None or node.available is None or node.used is None or node.capacity <= 0:
        return [line(Span("Nothing is known of its disk: no agent has reported it.", Style.WARN))]
    taken = node.capacity - node.available - node.kept
    others = max(taken - node.used, 0)
    open_to_models = node.available / node.capacity
    style = (
        Style.BAD if open_to_models < 0.05 else Style.WARN if open_to_models < 0.15 else Style.PLAIN
    )
    kept = f"kept free {size(node.kept)}, " if node.kept else ""
    coming = f", {size(node.reserved)} still to be written" if node.reserved else ""
    return [
        line(
            "Disk  ",
            Span(bar(taken / node.capacity), style),
            f"  {percent(taken, node.capacity)} of {size(node.capacity)}: models {size(node.used)}, "
            f"others {size(others)}, {kept}free {size(node.available)}{coming}",
        )
    ]


def _models(node: NodeFacts, now: datetime, *, live: bool) -> list[Line]:
    wanted = [
        node.reports.get(key) or Report(key, ModelState.DOWNLOAD_PENDING) for key in node.lines
    ]
    if not wanted:
        return [line("Its work list is empty.")]
    rows = [_model_row(report, now, live=live) for report in sorted(wanted, key=_urgency)]
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


def _model_row(report: Report, now: datetime, *, live: bool) -> list[Cell]:
    """live: False when it may be long past: nothing moves then, and no time is promised."""
    state, style = _STATES[report.state]
    done, total = report.done or 0, report.total or 0
    moving = live and report.state is ModelState.DOWNLOADING
    left = (total - done) / report.rate if moving and report.rate and total else None
    return [
        report.key,
        Span(state, style if live else Style.DIM),
        report.reason or "",
        size(report.total),
        percent(done, total),
        rate(report.rate) if moving else "",
        "" if left is None else span_of(left),
        report.verified_by or "",
        ago(report.completed or report.started, now),
        until(report.retry_at, now) if live else "",
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
