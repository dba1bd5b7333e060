"""Writes the docs' page of reasons, or checks that it is there: `python -m shared.ops.reasons [--check] [FILE]`."""

import argparse
import sys
from pathlib import Path

from shared.domain.reason_rows import Chapter, Row
from shared.domain.reason_table import CHAPTERS

_HEADER = """\
<!-- Generated from shared/domain by `python -m shared.ops.reasons`. -->
# Reasons

The same names stand in conditions (`kubectl describe localmodelcache CACHE`), in events, in `status.models[]` of
LocalModelNodes, in metrics, and in `kubectl localmodel status`. `kubectl localmodel explain CACHE` says what led to one.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEADER, _contents(), *map(_chapter, CHAPTERS)])


def _contents() -> str:
    lines = ["| reason | in one sentence | goes on by itself |", "|---|---|---|"]
    lines += [
        f"| [{row.reason.value}](#{row.reason.value.lower()}) | {row.sentence} | {row.course.value} |"
        for row in sorted((r for c in CHAPTERS for r in c.rows), key=lambda row: row.reason.value)
    ]
    return "\n".join(lines) + "\n"


def _chapter(chapter: Chapter) -> str:
    return "\n".join(
        [f"## {chapter.title}\n", f"Shown in {chapter.shown}.\n", *map(_row, chapter.rows)]
    )


def _row(row: Row) -> str:
    lines = [f"### {row.reason.value}\n", f"{row.sentence[0].upper()}{row.sentence[1:]}.\n"]
    lines.append(f"- **What it means:** {row.meaning}")
    lines.append(f"- **What happens next:** {row.next}")
    lines.append(f"- **What you can do:** {row.action or 'Nothing need be done.'}\n")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when the file differs"
    )
    parser.add_argument("file", nargs="?", type=Path, default=Path("docs/reasons.md"))
    arguments = parser.parse_args()
    text, path = page(), arguments.file
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return 0
    if arguments.check:
        sys.stderr.write(f"not as generated: {path}; run python -m shared.ops.reasons\n")
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
