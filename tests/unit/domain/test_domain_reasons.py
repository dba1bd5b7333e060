"""The one table of reasons: complete, on the docs' page, and every reason is made by code and expected by a test."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.domain.reason_rows import Course, Row
from shared.domain.reason_table import CHAPTERS, TABLE, row, with_course
from shared.domain.reasons import Reason
from shared.ops.reasons import page
from tests.unit.domain.expectations import expected, named

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
    """A test compares what came out with this reason, and has not put it in."""
    assert reason in _EXPECTED, f"no test expects {reason} to come out of anything"


@pytest.mark.parametrize(
    ("test", "counts"),
    [
        ("def test(): assert report().reason == Reason.QUEUED", True),
        ("def test(): assert '(Queued)' in done.err", True),
        ("def test(): assert 'waits: Queued for now' in done.err", False),
        ("def test(): work.wait_report('m', reason=Reason.QUEUED)", True),
        ("def test(): report(Reason.QUEUED)", False),
        ("def test(): assert report(Reason.QUEUED).state == 'Pending'", False),
        ("def test():\n made = report(Reason.QUEUED)\n assert made.reason == Reason.QUEUED", False),
        ("def test():\n assert report(reason=Reason.QUEUED).reason == Reason.QUEUED", False),
        ("def has(x, y): assert x.reason == y\ndef test(): has(report(), Reason.QUEUED)", True),
        ("def has(x, y): assert make(x) == y\ndef test(): has(Reason.QUEUED, 1)", False),
        ("@mark.parametrize('want', [Reason.QUEUED])\ndef test(want): assert got() == want", True),
        ("@mark.parametrize('have', [Reason.QUEUED])\ndef test(have): assert got(have) == 1", False),
        ("@mark.parametrize('one', [Reason.QUEUED])\ndef test(one): assert got(one) == one", False),
    ],
)  # fmt: skip
def test_what_a_test_puts_in_is_not_what_it_expects(test: str, counts: bool) -> None:
    assert (expected(ast.parse(test)) == {Reason.QUEUED}) == counts


def _modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            yield (
                path.relative_to(REPOSITORY).as_posix(),
                ast.parse(path.read_text(encoding="utf-8")),
            )


def _raised(error: str) -> Iterator[Reason]:
    """First arguments of this class of error, wherever it is made."""
    for _, module in _modules("agent"):
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == error:
                inside = (inner for argument in node.args[:1] for inner in ast.walk(argument))
                yield from (reason for one in inside if (reason := named(one)) is not None)


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
            if id(node) not in asked and (reason := named(node)) is not None
        }
    return found


def _expected() -> set[Reason]:
    """By any test module that is not given reasons as what it works with."""
    return {
        reason
        for name, module in _modules("tests")
        if Path(name).name.startswith("test_") and not name.startswith(_GIVEN)
        for reason in expected(module)
    }


_MADE = _made()
_EXPECTED = _expected()
