"""Text that a terminal may be shown, whoever wrote it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cli.pages.text import (
    Span,
    bar,
    counted,
    cut,
    line,
    percent,
    plain,
    seconds_in,
    some,
    span_of,
    table,
)


@given(st.text())
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    shown = Span(text).text
    assert all(char.isprintable() or char == " " or ord(char) >= 0xA0 for char in shown)
    assert not set(shown) & {"\x1b", "\x9b", "\u202e", "\u2028", "\r", "\n"}
    assert Span(shown).text == shown


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    assert Span("a\x1b]0;owned\x07\x9b2Jb").text == "a\\x1b]0;owned\\x07\\x9b2Jb"
    assert Span("first\nsecond\tthird").text == "first second third"
    assert Span("\u202egpj.exe").text == "\\u202egpj.exe"
    assert Span("[bold red]<b>x</b>").text == "[bold red]<b>x</b>"


def test_long_lines_are_cut_at_the_width() -> None:
    assert plain([line("abc", "defgh")], width=6) == "abcde…\n"
    assert plain([line("abcdef")], width=6) == "abcdef\n"
    assert sum(len(s.text) for s in cut(line("x" * 500), 80)) == 80


def test_a_column_without_content_is_left_out() -> None:
    rows = [("a", "", "1"), ("bb", "", "2")]
    assert plain(table(("NAME", "EMPTY", "N"), rows)) == "NAME  N\na     1\nbb    2\n"
    assert table(("NAME",), []) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (190, "3m10s"),
        (700, "11m"),
        (3600, "1h"),
        (7500, "2h5m"),
        (90_000, "1d1h"),
        (40 * 86_400, "40d"),
        (-5, "0s"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert span_of(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172_800), ("0", 0)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "h", "1x", "-3", "1.5h", "30m1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds_in(text)


def test_a_percentage_is_100_only_when_nothing_is_missing() -> None:
    assert percent(999_999, 1_000_000) == "99%"
    assert percent(5, 5) == "100%"
    assert percent(0, 0) == ""


def test_bars_and_counts() -> None:
    assert bar(0.5, cells=4) == "██░░"
    assert bar(7.0, cells=4) == "████"
    assert counted(1, "node") == "1 node"
    assert counted(1000, "copy") == "1,000 copies"
    assert some(["c", "a", "b", "d"]) == "a, b, c and 1 more"
