"""Lines of text with styles, tables, bars, sizes and times. Pure.

What comes from the cluster is somebody's text: a Span shows control characters instead of obeying them.
"""

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shared.domain.printable import clean
from shared.domain.quantity import human_bytes

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_BAR_CELLS = 24
_GAP = "  "


class Style(StrEnum):
    """As Rich calls it."""

    PLAIN = ""
    HEAD = "bold"
    GOOD = "green"
    WARN = "yellow"
    BAD = "red"
    DIM = "dim"


@dataclass(frozen=True, slots=True)
class Span:
    """Text without control characters: those that were given are shown as escapes, line ends and tabs as spaces."""

    text: str
    style: Style = Style.PLAIN

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", clean(self.text))


Line = tuple[Span, ...]
Cell = Span | str


def line(*parts: Cell) -> Line:
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


def plain(lines: Iterable[Line], *, width: int | None = None) -> str:
    """Without styles, each line ended; cut at `width`."""
    return "".join("".join(span.text for span in cut(one, width)).rstrip() + "\n" for one in lines)


def cut(one: Line, width: int | None) -> Line:
    """At most `width` characters; what was cut ends in an ellipsis."""
    if width is None or sum(len(span.text) for span in one) <= width:
        return one
    kept: list[Span] = []
    left = max(width - 1, 0)
    for span in one:
        kept.append(Span(span.text[:left], span.style))
        left -= len(kept[-1].text)
        if left == 0:
            break
    return (*kept, Span("…", Style.DIM))


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[Line]:
    """Columns as wide as their widest cell; a column that is empty in every row is left out, the first never."""
    if not rows:
        return []
    cells = [line(*row) for row in rows]
    shown = [at for at in range(len(head)) if at == 0 or any(row[at].text for row in cells)]
    widths = {at: max(len(head[at]), *(len(row[at].text) for row in cells)) for at in shown}
    titles = line(*(Span(name, Style.HEAD) for name in head))
    return [_row(row, shown, widths) for row in (titles, *cells)]


def _row(row: Line, shown: Sequence[int], widths: dict[int, int]) -> Line:
    spans: list[Span] = []
    for at in shown:
        spans.append(row[at])
        if at != shown[-1]:
            spans.append(Span(" " * (widths[at] - len(row[at].text)) + _GAP))
    return tuple(spans)


def bar(share: float, *, cells: int = _BAR_CELLS) -> str:
    """`████░░░░`"""
    full = round(max(0.0, min(share, 1.0)) * cells)
    return "█" * full + "░" * (cells - full)


def percent(done: int, total: int) -> str:
    """Rounded down: 100 % only when nothing is missing."""
    return f"{min(done * 100 // total, 100)}%" if total > 0 else ""


def size(count: int | None) -> str:
    return "" if count is None else human_bytes(count)


def rate(per_second: int | None) -> str:
    return f"{human_bytes(per_second)}/s" if per_second else ""


def span_of(seconds: float) -> str:
    """`5s`, `3m10s`, `2h5m`, `4d6h`: two units at most."""
    whole = max(round(seconds), 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 60:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if hours < 1:
        return f"{minutes}m"
    if days < 1:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 10 and hours % 24 else f"{days}d"


def ago(when: datetime | None, now: datetime) -> str:
    """Age as kubectl shows it."""
    return "" if when is None else span_of((now - when).total_seconds())


def until(when: datetime | None, now: datetime) -> str:
    """`in 3m10s`, `now`; empty when nothing is due."""
    if when is None:
        return ""
    seconds = (when - now).total_seconds()
    return f"in {span_of(seconds)}" if seconds >= 1 else "now"


def some(names: Iterable[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    ordered = sorted(names)
    more = len(ordered) - most
    return ", ".join(ordered[:most]) + (f" and {more:,} more" if more > 0 else "")


def counted(count: int, what: str) -> str:
    """`1 node`, `1,000 nodes`; `copy` becomes `copies`."""
    many = what[:-1] + "ies" if what.endswith("y") else what + "s"
    return f"{count:,} {what if count == 1 else many}"


def seconds_in(text: str) -> float:
    """`90s`, `30m`, `1h30m`, `2d`; a bare number is seconds. ValueError when it is none of these."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not text.strip():
        raise ValueError(f"{text!r} is not a duration such as 90s, 30m or 1h30m")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def wrapped(title: str, text: str, width: int) -> list[Line]:
    """Names and messages may be long words, which stay whole, so that they can be copied."""
    indent = " " * (len(title) - len(title.lstrip()) + 2)
    found = textwrap.wrap(
        title + text,
        max(width, 40),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line(part) for part in found]
