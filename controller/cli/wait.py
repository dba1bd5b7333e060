"""`wait`: progress until caches are Ready, and the reason when nothing moves."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from controller.cli import read
from controller.cli.cluster import Cluster, connected
from controller.cli.kubeconfig import Target
from controller.cli.outcome import Exit, say
from controller.cli.pages.status import Shown
from controller.cli.pages.text import Line, Span, Style, line, span_of
from controller.cli.pages.waiting import brief, page
from controller.cli.rounds import Rounds
from controller.cli.screen import follow


async def wait(
    target: Target,
    names: Sequence[str],
    namespace: str | None,
    *,
    seconds: float | None,
    fail_fast: bool,
) -> Exit:
    async with connected(target) as cluster:
        keys = [(await read.cache(cluster, name, namespace)).key for name in names]
        return await wait_for(cluster, keys, seconds=seconds, fail_fast=fail_fast)


async def wait_for(
    cluster: Cluster, keys: Sequence[str], *, seconds: float | None, fail_fast: bool
) -> Exit:
    """0 when all are Ready; 4 when the time is over, or with `fail_fast` when one stalls. None = without end."""
    loop = asyncio.get_running_loop()
    end = None if seconds is None else loop.time() + seconds
    latest: list[Shown] = []
    outcome = Exit.OK

    async def look() -> list[Shown]:
        return [(await read.shown(cluster, await read.exactly(cluster, key)))[0] for key in keys]

    async def pages() -> AsyncIterator[list[Line]]:
        nonlocal latest, outcome
        async for latest, stale in Rounds(look, until=end):
            lines = page(latest, now=read.now())
            yield lines if stale is None else [*lines, line(Span(stale, Style.WARN))]
            if stale is None and all(one.cache.ready for one in latest):
                return
            late = end is not None and loop.time() >= end
            if late or (fail_fast and any(one.cache.stalled for one in latest)):
                outcome = Exit.NO
                return

    await follow(pages(), lambda: brief(latest))
    if outcome is Exit.NO:
        left = [one.cache.key for one in latest if not one.cache.ready]
        say(
            f"Not Ready{'' if seconds is None or fail_fast else f' within {span_of(seconds)}'}: {', '.join(left)}."
        )
        say(f"Hint: kubectl localmodel explain {left[0]} says why.")
    return outcome
