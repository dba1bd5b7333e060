"""`wait`: a bar per cache, the nodes that are behind, and the reason when nothing moves. Pure."""

from collections.abc import Sequence
from datetime import datetime

from controller.cli.pages.copies import SHOWN, bundles, moving_rate
from controller.cli.pages.status import Shown, in_order
from controller.cli.pages.text import (
    Line,
    Span,
    Style,
    bar,
    line,
    percent,
    rate,
    size,
    some,
    span_of,
    until,
)
from shared.api.cache import NodeState
from shared.domain.printable import clean
from shared.domain.reason_table import row

# Enough to see who is behind; the rest is in the sum.
_NODES = 8


def page(found: Sequence[Shown], *, now: datetime) -> list[Line]:
    width = max((len(clean(one.cache.key)) for one in found), default=0)
    lines: list[Line] = []
    for one in in_order(found):
        lines += _cache(one, width, now)
    return lines


def brief(found: Sequence[Shown]) -> Line:
    """One line for a log: every cache with its share, and why when nothing moves."""
    parts = []
    for one in found:
        done, total = one.bytes
        told = one.cache.headline
        why = f" ({told.reason})" if told and not one.cache.ready else ""
        copies = one.cache.copies
        parts.append(
            f"{one.cache.key} {percent(done, total) or '0%'}, "
            f"{copies.get('available', 0)}/{copies.get('total', 0)} nodes{why}"
        )
    return line("; ".join(parts))


def _cache(one: Shown, width: int, now: datetime) -> list[Line]:
    done, total = one.bytes
    left = one.seconds_left
    figures = [
        f"{percent(done, total) or '0%':>4}",
        f"{size(done)} of {size(total)}" if total else "",
        rate(moving_rate(one.copies)),
        "" if left is None else f"{span_of(left)} left",
    ]
    name = clean(one.cache.key).ljust(width)
    share = done / total if total else 0.0
    head = line(
        Span(name, Style.HEAD),
        " ",
        Span(bar(share), one.style),
        " ",
        "  ".join(f for f in figures if f),
    )
    return [head, *_moving(one), *_trouble(one, now)]


def _moving(one: Shown) -> list[Line]:
    """Who is behind, the last first."""
    moving = [copy for copy in one.copies if copy.state is NodeState.DOWNLOADING]
    behind = sorted(
        moving, key=lambda copy: (copy.done / copy.total if copy.total else 0, copy.node)
    )
    lines = []
    for copy in behind[:_NODES]:
        share = copy.done / copy.total if copy.total else 0.0
        lines.append(
            line(
                "  ",
                bar(share, cells=12),
                f" {percent(copy.done, copy.total):>4} {copy.node} ",
                rate(copy.rate),
            )
        )
    more = len(behind) - _NODES
    return [*lines, line(Span(f"  and {more:,} more nodes", Style.DIM))] if more > 0 else lines


def _trouble(one: Shown, now: datetime) -> list[Line]:
    """Every kind of trouble with the nodes it has, what is said of it, and when it is tried again."""
    told = one.cache.headline
    lines = []
    for bundle in bundles(one.copies):
        first = bundle.first
        if first.style not in (Style.BAD, Style.WARN):
            continue
        known = row(first.reason)
        why = first.message or (known.sentence if known else "")
        due = f"; tried again {until(bundle.retry_at, now)}" if bundle.retry_at else ""
        text = f"  {SHOWN[first.state]}, {first.reason} on {some(bundle.nodes)}: {why}{due}"
        lines.append(line(Span(text, first.style)))
    if not lines and told is not None and one.style in (Style.BAD, Style.WARN):
        lines.append(line(Span(f"  {told.reason}: {told.message}", one.style)))
    return lines
