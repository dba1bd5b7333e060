"""What a person sees while a copy runs: a bar on a terminal, a line now and then elsewhere."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from agent.cli.outcome import say
from agent.copying.progress import CopyWatch
from shared.domain.quantity import human_bytes
from shared.domain.reasons import Reason

# Often enough for an eye, and for a log that somebody follows.
_BAR_SECONDS, _LINE_SECONDS = 0.2, 5.0

_DOING = {
    Reason.RESOLVING: "resolving",
    Reason.DOWNLOADING: "downloading",
    Reason.VERIFYING: "publishing",
    Reason.UNPACKING: "unpacking",
}


def describe(watch: CopyWatch) -> str:
    """`downloading 1.0 GiB of 4.0 GiB (25 %), 800 MiB/s, 4 s left`"""
    parts = [_DOING.get(watch.phase, watch.phase.value)]
    done = watch.done
    if watch.total:
        parts[0] += (
            f" {human_bytes(done)} of {human_bytes(watch.total)} ({done * 100 // watch.total} %)"
        )
    elif done:
        parts[0] += f" {human_bytes(done)}"
    rate = watch.rate.per_second()
    if rate:
        parts.append(f"{human_bytes(rate)}/s")
        if watch.total:
            parts.append(f"{max(watch.total - done, 0) / rate:.0f} s left")
    return ", ".join(parts)


@contextmanager
def shown(watch: CopyWatch, *, quiet: bool) -> Iterator[None]:
    """Shows the copy while the block runs."""
    if quiet:
        yield
        return
    follow = _bar(watch) if sys.stderr.isatty() else _lines(watch)
    task = asyncio.ensure_future(follow)
    try:
        yield
    finally:
        task.cancel()


async def _lines(watch: CopyWatch) -> None:
    loop = asyncio.get_running_loop()
    said = ""
    while True:
        watch.rate.add(loop.time(), watch.moved)
        text = describe(watch)
        if text != said:
            say(text)
            said = text
        await asyncio.sleep(_LINE_SECONDS)


async def _bar(watch: CopyWatch) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        while True:
            doing = _DOING.get(watch.phase, watch.phase.value)
            bar.update(task, description=doing, total=watch.total, completed=watch.done)
            await asyncio.sleep(_BAR_SECONDS)
