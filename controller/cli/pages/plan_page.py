"""`plan` as a table and a sentence, and as data. Pure."""

from collections.abc import Sequence
from typing import Any

from controller.cli.pages.plan import SINGLE_NODES, Outlook, Plan
from controller.cli.pages.text import Cell, Line, Span, Style, counted, line, size, some, table
from shared.domain.forecast import Verdict
from shared.domain.reasons import Reason
from shared.domain.views import CacheView

NAMED_VICTIMS = 4


def page(found: Plan, *, in_use: frozenset[str] = frozenset()) -> list[Line]:
    """A line per node, or per kind of answer when they are many; then the answer to all."""
    lines: list[Line] = []
    nodes = found.outlooks
    if len(nodes) <= SINGLE_NODES:
        rows = [[one.node, *_cells(one, found.cache, in_use)] for one in sorted(nodes, key=_order)]
        lines += table(("NODE", "GROUP", "ANSWER", "WHY"), rows)
    else:
        groups: dict[tuple[object, ...], list[Outlook]] = {}
        for one in sorted(nodes, key=_order):
            groups.setdefault(
                (
                    one.group,
                    one.verdict,
                    one.ready,
                    one.shared,
                    one.reason,
                    one.missing,
                    one.linked,
                ),
                [],
            ).append(one)
        rows = []
        for each in groups.values():
            worst = max(each, key=lambda one: (one.short, one.go != ()))
            rows.append(
                [f"{len(each):,}", some(o.node for o in each), *_cells(worst, found.cache, in_use)]
            )
        lines += table(("NODES", "WHICH", "GROUP", "ANSWER", "WHY"), rows)
    if lines:
        lines.append(line(""))
    return [*lines, _answer(found)]


def _order(one: Outlook) -> tuple[bool, int, str]:
    return one.fits, -one.short, one.node


def _cells(one: Outlook, cache: CacheView, in_use: frozenset[str]) -> list[Cell]:
    late = "" if one.ready else "the node is not Ready"
    with_others = some(one.shared)
    if one.verdict is Verdict.PRESENT:
        why = f"with {with_others}" if one.shared else ""
        return [one.group, Span("already there", Style.GOOD), _joined(why, late)]
    if one.verdict is Verdict.FITS:
        return [one.group, Span("fits", Style.GOOD), _joined(_sharing(one, cache), late)]
    if one.reason is not Reason.NO_SPACE:
        return [one.group, Span(str(one.reason), Style.BAD), _joined(one.message, late)]
    short = Span(f"short by {size(one.short)}", Style.BAD)
    return [one.group, short, _joined(_go(one, in_use), late)]


def _sharing(one: Outlook, cache: CacheView) -> str:
    if one.linked:
        there = f"{size(one.linked)} of its files are there in other revisions"
        return f"{there}; at most {size(one.missing)} to fetch"
    if not one.shared:
        return ""
    if one.missing:
        return (
            f"{some(one.shared)} has other files of it there; at most {size(one.missing)} to fetch"
        )
    return f"shares {size(cache.size)} with {some(one.shared)}"


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def _go(one: Outlook, in_use: frozenset[str]) -> str:
    if one.go is None:
        return f"{one.message}; too large even if everything else went"
    if not one.go:
        return one.message
    named = [
        f"{key} ({size(count)}{', in use' if key in in_use else ''})"
        for key, count in one.go[:NAMED_VICTIMS]
    ]
    more = len(one.go) - NAMED_VICTIMS
    return f"{one.message}; would have to go: {', '.join(named)}" + (
        f" and {more} more" if more > 0 else ""
    )


def _answer(found: Plan) -> Line:
    cache, nodes = found.cache, found.outlooks
    what = f"{cache.key} ({size(cache.size)})"
    if found.missing_groups:
        text = f"{what} cannot be placed: node group {some(found.missing_groups)} does not exist."
        return line(Span(text, Style.BAD))
    if not nodes:
        text = f"{what} would be on no node: none belongs to node group {some(cache.groups)}."
        return line(Span(text, Style.BAD))
    lacking = [one for one in nodes if not one.fits]
    if lacking:
        text = f"{what} does not fit on {len(lacking):,} of {counted(len(nodes), 'node')}."
        return line(Span(text, Style.BAD))
    there = sum(one.verdict is Verdict.PRESENT for one in nodes)
    fetch = sum(one.missing for one in nodes)
    traffic = f", at most {size(fetch)} to fetch in all" if fetch else ", nothing to fetch"
    held = f" ({there:,} hold it already)" if there else ""
    return line(Span(f"{what} fits on {counted(len(nodes), 'node')}{held}{traffic}.", Style.GOOD))


def as_data(found: Plan) -> dict[str, Any]:
    return {
        "cache": found.cache.key,
        "bytes": found.cache.size,
        "fits": found.fits,
        "missingNodeGroups": list(found.missing_groups),
        "nodes": [_data(one) for one in sorted(found.outlooks, key=_order)],
    }


def _data(one: Outlook) -> dict[str, Any]:
    answer: dict[str, Any] = {"node": one.node, "nodeGroup": one.group, "nodeReady": one.ready}
    answer |= {"answer": one.verdict.value, "sharedWith": list(one.shared)}
    if one.fits:
        answer |= {"bytesToFetch": one.missing, "bytesLinked": one.linked}
    else:
        answer |= {"reason": str(one.reason), "message": one.message, "bytesShort": one.short}
        answer["wouldHaveToGo"] = None if one.go is None else [key for key, _ in one.go]
    return answer


def unseen(names: Sequence[str]) -> Line:
    """A remark about what could not be read."""
    return line(
        Span(f"Not counted, because you may not list them: {', '.join(names)}.", Style.WARN)
    )
