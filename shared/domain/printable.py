"""Text that somebody else wrote, fit for a terminal, a log and a status. Pure."""

import re

# C0, DEL, C1, what has no width or turns the direction of writing, line separators, lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def clean(text: str) -> str:
    """Control characters as escapes, line ends and tabs as spaces: shown instead of obeyed."""
    return _UNSAFE.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    found = match[0]
    return " " if found in "\t\n\r" else found.encode("unicode_escape").decode()
