"""`status`: all caches in a table, or one cache with its nodes; the same as data for programs. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.cli.pages.copies import SHOWN, Bundle, Copy, bundles, moving_rate
from controller.cli.pages.facts import CacheFacts
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
    some,
    span_of,
    table,
    until,
)
from shared.api.meta import GROUP
from shared.domain.reason_rows import Course
from shared.domain.reason_table import row

# More nodes than this are shown by state and reason, unless every one is asked for.
SINGLE_NODES = 20


@dataclass(frozen=True, slots=True)
class Shown:
    """A cache with its copies; `copies` is empty when LocalModelNodes were not read."""

    cache: CacheFacts
    copies: Sequence[Copy] = ()

    @property
    def state(self) -> str:
        if self.cache.view.deleting:
            return "Deleting"
        if self.cache.headline is None:
            return "New"
        if self.cache.ready:
            return "Ready"
        return "Stalled" if self.cache.stalled else "Reconciling"

    @property
    def reason(self) -> str:
        """Why it is not Ready, or what is worth knowing although it is."""
        told = self.cache.headline
        return told.reason if told else ""

    @property
    def bytes(self) -> tuple[int, int]:
        """Done and total; the agents' own figures where they were read, which are newer."""
        if self.copies:
            return sum(c.done for c in self.copies), sum(c.total for c in self.copies)
        return self.cache.done, self.cache.total

    @property
    def seconds_left(self) -> float | None:
        left = [copy.seconds_left for copy in self.copies]
        return max((s for s in left if s is not None), default=None)

    @property
    def retry_at(self) -> datetime | None:
        return min((c.retry_at for c in self.copies if c.retry_at is not None), default=None)

    @property
    def verified_by(self) -> str:
        return ", ".join(sorted({c.verified_by for c in self.copies if c.verified_by}))

    @property
    def style(self) -> Style:
        if self.state == "Stalled":
            return Style.BAD
        known = row(self.reason)
        if self.state == "Ready":
            return Style.WARN if known is not None and known.course is Course.NOTICE else Style.GOOD
        if known is not None and known.course is Course.MOVING:
            return Style.PLAIN
        return Style.WARN


def in_order(found: Sequence[Shown]) -> list[Shown]:
    """Trouble first; of equal trouble, by name."""
    order = (Style.BAD, Style.WARN, Style.PLAIN, Style.GOOD)
    return sorted(found, key=lambda one: (order.index(one.style), one.cache.key))


def overview(
    found: Sequence[Shown], *, now: datetime, wide: bool = False, width: int | None = None
) -> list[Line]:
    """A line per cache. How copies were verified is left out where it would cost others their place in `width`."""
    head = ["CACHE", "STATE", "COPIES", "DONE", "VERIFIED", "RATE", "LEFT", "REASON", "NEXT TRY"]
    head += ["SIZE", "REVISION", "AGE", "SOURCE"] if wide else []
    rows = [_overview_row(one, now=now, wide=wide) for one in in_order(found)]
    if width is not None and not wide:
        figures = table(head, [row[:-1] for row in rows])
        if any(sum(len(span.text) for span in one) > width for one in figures):
            at = head.index("VERIFIED")
            head, rows = head[:at] + head[at + 1 :], [row[:at] + row[at + 1 :] for row in rows]
    return table([*head, "MESSAGE"], rows)


def _overview_row(one: Shown, *, now: datetime, wide: bool) -> list[Cell]:
    cache, (done, total), left = one.cache, one.bytes, one.seconds_left
    copies = cache.copies
    failed = copies.get("failed", 0)
    count = f"{copies.get('available', 0)}/{copies.get('total', 0)}"
    fine = one.state == "Ready" and one.style is Style.GOOD
    told = cache.headline
    cells: list[Cell] = [
        cache.key,
        Span(one.state, one.style),
        Span(
            f"{count}, {failed} failed" if failed else count, Style.BAD if failed else Style.PLAIN
        ),
        percent(done, total),
        one.verified_by,
        rate(moving_rate(one.copies)),
        "" if left is None else span_of(left),
        "" if fine else one.reason,
        until(one.retry_at, now),
    ]
    if wide:
        view = cache.view
        cells += [
            size(view.size),
            view.revision or "",
            ago(cache.created, now),
            view.uri,
        ]
    return [*cells, "" if fine or told is None else Span(told.message, Style.DIM)]


def detail(one: Shown, *, now: datetime, wide: bool = False) -> list[Line]:
    """One cache: what it is, how far it is, its nodes singly or, when they are many, by state and reason."""
    cache, (done, total) = one.cache, one.bytes
    view, told = cache.view, cache.headline
    facts = [size(view.size), view.uri, f"revision {view.revision}" if view.revision else ""]
    lines = [
        line(Span(cache.key, Style.HEAD), "  ", Span("  ".join(f for f in facts if f), Style.DIM)),
        line(Span(one.state, one.style), _colon(told.reason, told.message) if told else ""),
    ]
    if total and done < total:
        moving = [rate(moving_rate(one.copies)), _left(one.seconds_left)]
        figures = f" {percent(done, total)}  {size(done)} of {size(total)}  {'  '.join(m for m in moving if m)}"
        lines.append(line(bar(done / total), figures))
    lines.append(line(""))
    if wide or len(one.copies) <= SINGLE_NODES:
        lines += singly(one.copies, now=now)
    else:
        lines += together(bundles(one.copies), now=now)
    return lines


def singly(found: Sequence[Copy], *, now: datetime) -> list[Line]:
    head = (
        "NODE",
        "STATE",
        "REASON",
        "DONE",
        "RATE",
        "LEFT",
        "VERIFIED",
        "TRIES",
        "NEXT TRY",
        "MESSAGE",
    )
    return table(head, [_copy_row(copy, now=now) for copy in found])


def _copy_row(copy: Copy, *, now: datetime) -> list[Cell]:
    left = copy.seconds_left
    return [
        copy.node,
        Span(SHOWN[copy.state], copy.style),
        copy.reason,
        percent(copy.done, copy.total),
        rate(copy.rate),
        "" if left is None else span_of(left),
        copy.verified_by or "",
        str(copy.attempts) if copy.attempts and copy.attempts > 1 else "",
        until(copy.retry_at, now),
        Span(copy.message, Style.DIM),
    ]


def together(found: Sequence[Bundle], *, now: datetime) -> list[Line]:
    """A line per state and reason."""
    rows: list[list[Cell]] = []
    for one in found:
        first, left = one.first, one.seconds_left
        about = (
            f"{first.node}: {first.message}" if first.message and first.verified_by is None else ""
        )
        rows.append(
            [
                Span(SHOWN[first.state], first.style),
                first.reason,
                f"{len(one.copies):,}",
                percent(one.done, one.total),
                rate(one.rate),
                "" if left is None else span_of(left),
                one.verified_by,
                until(one.retry_at, now),
                some(one.nodes),
                Span(about, Style.DIM),
            ]
        )
    head = (
        "STATE",
        "REASON",
        "NODES",
        "DONE",
        "RATE",
        "LEFT",
        "VERIFIED",
        "NEXT TRY",
        "WHICH",
        "MESSAGE",
    )
    return table(head, rows)


def summary(found: Sequence[Shown]) -> Line:
    """Below the overview: how many caches are in which state."""
    states = [one.state for one in found]
    parts = [f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states))]
    return line(Span(f"{counted(len(found), 'cache')}: {', '.join(parts)}", Style.DIM))


def names(found: Sequence[Shown]) -> list[Line]:
    """As `kubectl get -o name`; they may be handed to kubectl, with -n for those of a namespace."""
    return [
        line(f"{one.cache.kind.lower()}.{GROUP}/{one.cache.view.name}") for one in in_order(found)
    ]


def _colon(reason: str, message: str) -> str:
    return f": {reason}" + (f", {message}" if message else "")


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{span_of(seconds)} left"
