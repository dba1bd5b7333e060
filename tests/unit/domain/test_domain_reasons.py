"""The one table of reasons: complete, on the docs' page, and every reason is made by code and expected by a test."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from shared.domain.reason_rows import Course, Row
from shared.domain.reason_table import CHAPTERS, TABLE, row, with_course
from shared.domain.reasons import Reason
from shared.ops.reasons import page

REPOSITORY = Path(__file__).resolve().parents[3]
_TABLE = {
    "reasons.py",
    "reason_rows.py",
    "reason_table.py",
    "reasons_of_caches.py",
    "reasons_of_copies.py",
}
# They are given reasons as input, so they prove nothing about who makes them.
_GIVEN = ("tests/unit/cli", "tests/cluster/test_cli", "tests/unit/domain/test_domain_reasons")
_WORD = re.compile(r"\w+")
_VALUES = {reason.value: reason for reason in Reason}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_row(reason: Reason) -> None:
    assert reason in TABLE, f"{reason} lacks a row in shared/domain/reasons_of_*.py"


def test_rows_are_sentences_and_stand_once() -> None:
    rows = [one for chapter in CHAPTERS for one in chapter.rows]
    assert len(rows) == len(TABLE)
    for one in rows:
        assert one.sentence[-1] != ".", one.reason
        for text in (one.meaning, one.next, one.action):
            assert not text or text[-1] in ".`", (one.reason, text)


@pytest.mark.parametrize("one", list(TABLE.values()), ids=lambda one: one.reason.value)
def test_where_nothing_goes_on_by_itself_the_row_says_what_a_person_can_do(one: Row) -> None:
    if one.course not in (Course.FINE, Course.MOVING):
        assert one.action


def test_an_unknown_reason_has_no_row() -> None:
    assert row("FromAnotherVersion") is None
    assert row(None) is None


def test_the_docs_page_is_as_generated() -> None:
    """`python -m shared.ops.reasons` writes it."""
    assert (REPOSITORY / "docs/reasons.md").read_text(encoding="utf-8") == page()


def test_what_is_retried_soon_is_what_agents_raise_as_such() -> None:
    """The agents' class of an error decides what they do; the table must say the same. What is raised both ways is told as the lighter one."""
    raised = set(_raised("Retryable"))
    assert raised <= with_course(Course.RETRIED), raised - with_course(Course.RETRIED)
    stalled = set(_raised("Stalled")) - raised
    assert stalled <= with_course(Course.STALLED), stalled - with_course(Course.STALLED)


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_made_by_code(reason: Reason) -> None:
    assert reason in _MADE, f"no code outside the table makes {reason}"


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_expected_by_a_test(reason: Reason) -> None:
    """A test compares what it got with this reason, or hands it to a function that does."""
    assert reason in _EXPECTED, f"no test expects {reason}"


def _modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            yield (
                path.relative_to(REPOSITORY).as_posix(),
                ast.parse(path.read_text(encoding="utf-8")),
            )


def _named(node: ast.AST) -> Reason | None:
    """`Reason.X` stands here."""
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Reason"
    ):
        return Reason.__members__.get(node.attr)
    return None


def _within(nodes: Iterable[ast.AST], *, text: bool = False) -> Iterator[Reason]:
    """Reasons below these nodes, by name, and by value in `text`."""
    for top in nodes:
        for node in ast.walk(top):
            reason = _named(node)
            if reason is not None:
                yield reason
            elif text and isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from (_VALUES[word] for word in _WORD.findall(node.value) if word in _VALUES)


def _raised(error: str) -> Iterator[Reason]:
    """First arguments of this class of error, wherever it is made."""
    for _, module in _modules("agent"):
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == error:
                yield from _within(node.args[:1])


def _made() -> set[Reason]:
    """What code mentions other than to compare with it or to count it up in a set."""
    found: set[Reason] = set()
    for name, module in _modules("agent", "controller", "shared"):
        if Path(name).name in _TABLE:
            continue
        asked = {
            id(inner)
            for node in ast.walk(module)
            if isinstance(node, ast.Compare | ast.Set | ast.MatchValue)
            for inner in ast.walk(node)
        }
        found |= {
            reason
            for node in ast.walk(module)
            if id(node) not in asked and (reason := _named(node)) is not None
        }
    return found


def _expected() -> set[Reason]:
    """What stands in assertions, comparisons, tables of cases and arguments of a test module's own functions."""
    found: set[Reason] = set()
    for name, module in _modules("tests"):
        if not Path(name).name.startswith("test_") or name.startswith(_GIVEN):
            continue
        own = {
            node.name
            for node in ast.walk(module)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for node in ast.walk(module):
            match node:
                case ast.Assert() | ast.Compare():
                    found |= set(_within([node], text=True))
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    found |= set(_within(node.decorator_list, text=True))
                case ast.Call() if getattr(node.func, "id", None) in own:
                    found |= set(_within([*node.args, *node.keywords], text=True))
                case _:
                    pass
    return found


_MADE = _made()
_EXPECTED = _expected()
