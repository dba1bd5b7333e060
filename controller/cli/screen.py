"""Where lines go: a terminal with colours and a picture that is drawn again, or plain text for files and pipes."""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from controller.cli.pages.text import Line, cut, plain

if TYPE_CHECKING:
    from rich.text import Text

# A log that somebody follows needs no more often.
_LINE_SECONDS = 5.0
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def show(lines: Sequence[Line]) -> None:
    """Long lines are cut on a terminal, never elsewhere."""
    if not _coloured():
        sys.stdout.write(plain(lines, width=width()))
        return
    from rich.console import Console

    Console(highlight=False).print(_text(lines), soft_wrap=True, end="")


def show_data(data: Any, output: str) -> None:
    """json or yaml. Control characters in strings stay escaped, so that a terminal does not obey them."""
    if output == "json":
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        text = _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    else:
        import yaml

        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)
    sys.stdout.write(text)


async def follow(pages: AsyncIterator[Sequence[Line]], brief: Callable[[], Line]) -> None:
    """Each page replaces the last one on a terminal; elsewhere `brief` is written when it says something new, and the last page."""
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        await _redraw(pages)
        return
    loop = asyncio.get_running_loop()
    said, said_at = "", -_LINE_SECONDS
    last: Sequence[Line] = ()
    async for page in pages:
        last, text = page, plain([brief()])
        if text != said and loop.time() - said_at >= _LINE_SECONDS:
            sys.stdout.write(text)
            sys.stdout.flush()
            said, said_at = text, loop.time()
    sys.stdout.write(plain(last))


async def _redraw(pages: AsyncIterator[Sequence[Line]]) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        async for page in pages:
            live.update(_text(page), refresh=True)


def _text(lines: Sequence[Line]) -> "Text":
    from rich.text import Text

    columns, made = width(), Text(no_wrap=True, overflow="ellipsis")
    for one in lines:
        for span in cut(one, columns):
            made.append(span.text, style=span.style.value or None)
        made.append("\n")
    return made


def _coloured() -> bool:
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def width() -> int | None:
    """Of the terminal; None where lines may be as long as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
