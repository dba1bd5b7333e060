"""What happened on a node last, of all that our programs told. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controller.cli.pages.facts import moment
from controller.cli.pages.text import Line, Span, Style, ago, table
from shared.domain.reason_table import row

_EVENTS = 10


@dataclass(frozen=True, slots=True)
class Happening:
    """An event about the node that one of our programs told."""

    when: datetime | None
    warning: bool
    reason: str
    message: str
    count: int


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


def table_of(events: Sequence[Happening], now: datetime) -> list[Line]:
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
