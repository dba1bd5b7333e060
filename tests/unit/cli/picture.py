"""What a page looked like when somebody last looked at it: plain text files beside the tests.

UPDATE_PICTURES=1 draws them anew; read the difference before it is committed.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from controller.cli.pages.text import Line, plain

_FOLDER = Path(__file__).parent / "pictures"


def compare(name: str, lines: Iterable[Line], *, width: int | None = None) -> None:
    compare_text(name, plain(lines, width=width))


def compare_text(name: str, text: str) -> None:
    path = _FOLDER / f"{name}.txt"
    if os.environ.get("UPDATE_PICTURES"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
