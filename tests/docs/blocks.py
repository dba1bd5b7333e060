"""The code blocks of README.md and of the documentation's pages. Pure but for reading the files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.cluster import REPOSITORY

PAGES = tuple(
    path.relative_to(REPOSITORY).as_posix()
    for path in (
        *(REPOSITORY / name for name in ("README.md", "ARCHITECTURE.md", "SECURITY.md")),
        *sorted((REPOSITORY / "docs").rglob("*.md")),
    )
)
_FENCE = re.compile(r"( *)```(.*)")
_MARK = re.compile(r"<!-- (?:not run|run but for `(?P<but>[^`]+)`): (?P<why>.+) -->")
_LISTED = re.compile(r"\s|[-*+] |\d+\. ")
_PICTURE = re.compile("[─│▶▼]")


@dataclass(frozen=True)
class Block:
    """kind: what the fence says; `indented` for a block without one.

    why: it is not run, as a comment before it says; with `but` only the lines with this word are not.
    """

    page: str
    line: int
    kind: str
    text: str
    why: str | None = None
    but: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> str | None:
        """What a person would type; None for a block that holds something else. ValueError for an unknown kind."""
        match self.kind:
            case "sh" | "indented":
                return self.text
            case "" if _prompts(self.text):
                return "\n".join(_prompts(self.text)) + "\n"
            case "" if _PICTURE.search(self.text):
                return None
            case "text":
                return None
            case kind if kind.split()[:1] == ["yaml"]:
                return None
            case _:
                raise ValueError(f"{self}: a block of an unknown kind {self.kind!r}")

    @property
    def script(self) -> str:
        """Those of the commands that are run here; empty for none."""
        if self.but is None:
            return "" if self.why else self.commands or ""
        kept = [line for line in (self.commands or "").splitlines() if self.but not in line]
        return "".join(f"{line}\n" for line in kept)


def blocks() -> tuple[Block, ...]:
    return tuple(
        block
        for page in PAGES
        for block in found(page, (REPOSITORY / page).read_text(encoding="utf-8"))
    )


def found(page: str, text: str) -> Iterator[Block]:
    lines = text.splitlines()
    at = 0
    before = ""
    while at < len(lines):
        line = lines[at]
        fence = _FENCE.fullmatch(line)
        mark = _MARK.fullmatch(before.strip())
        if fence:
            end = next(
                (n for n in range(at + 1, len(lines)) if lines[n].strip() == "```"), len(lines)
            )
            kind, begin = fence[2].strip(), at + 1
        elif line.startswith("    ") and not lines[at - 1].strip() and not _LISTED.match(before):
            end = next((n for n in range(at, len(lines)) if lines[n][:4].strip()), len(lines))
            kind, begin = "indented", at
        else:
            before = line if line.strip() else before
            at += 1
            continue
        body = "".join(
            f"{inner.removeprefix('    ' if kind == 'indented' else '')}\n"
            for inner in lines[begin:end]
        )
        why, but = (mark["why"], mark["but"]) if mark else (None, None)
        yield Block(page, at + 1, kind, body, why, but)
        before = ""
        at = end + (kind != "indented")


def _prompts(text: str) -> list[str]:
    return [line[2:] for line in text.splitlines() if line.startswith("$ ")]
