"""What strangers wrote is shown and never obeyed."""

from hypothesis import given
from hypothesis import strategies as st

from agent.errors import FetchError
from shared.domain.printable import clean
from shared.domain.reasons import Reason


def test_control_characters_are_shown_as_escapes_and_line_ends_as_spaces() -> None:
    assert clean("a\r\nb\tc") == "a  b c"
    assert clean("\x1b[2J\x9b\u202e") == "\\x1b[2J\\x9b\\u202e"
    assert clean("d\u00e9j\u00e0 \u4f60") == "d\u00e9j\u00e0 \u4f60"


@given(st.text())
def test_nothing_of_a_failure_moves_a_terminal_s_cursor(text: str) -> None:
    error = FetchError(Reason.SOURCE_ERROR, text)
    assert clean(error.message) == error.message == str(error)
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in error.message)
