"""`status`, `node`, `explain` and `gc`: reading only."""

from collections.abc import AsyncIterator

from controller.cli import read
from controller.cli.cluster import Cluster, connected
from controller.cli.kubeconfig import Target
from controller.cli.outcome import Exit, NotAllowed, Problem, say
from controller.cli.pages import explain, unused
from controller.cli.pages import node as node_page
from controller.cli.pages.copies import copies, not_placed
from controller.cli.pages.status import Shown, detail, names, overview, summary
from controller.cli.pages.status_data import as_data
from controller.cli.pages.text import Line, Span, Style, line
from controller.cli.rounds import Rounds
from controller.cli.screen import follow, show, show_data, width
from shared.domain import parse
from shared.kube.resource import LOCAL_MODEL_NODE_GROUPS

_HIDDEN = {
    "localmodelnodes": "Rates, reasons and retries of single nodes are not shown: you may not list localmodelnodes.",
    "nodes": "Which nodes are not Ready is not shown: you may not list nodes.",
}


async def status(
    target: Target, name: str | None, namespace: str | None, *, output: str, watch: bool
) -> Exit:
    async with connected(target) as cluster:
        if watch:
            return await _watched(cluster, name, namespace, wide=output == "wide")
        if name is not None:
            one, unseen = await read.shown(cluster, await read.cache(cluster, name, namespace))
            for what in unseen:
                say(_HIDDEN[what])
            if output in ("json", "yaml"):
                show_data(as_data(one), output)
            elif output == "name":
                show(names([one]))
            else:
                show(detail(one, now=read.now(), wide=output == "wide"))
            return Exit.OK
        every = output in ("wide", "json", "yaml")
        found, seen = await read.overview(cluster, namespace, wide=every)
        if seen.unseen:
            say(
                f"Not shown, because you may not list them: {', '.join(filter(None, seen.unseen))}."
            )
        if output in ("json", "yaml"):
            show_data({"caches": [as_data(one) for one in found]}, output)
        elif output == "name":
            show(names(found))
        elif not found:
            say("There are no caches here. kubectl localmodel create URI --group GROUP makes one.")
        else:
            show(overview(found, now=read.now(), wide=output == "wide", width=width()))
        return Exit.OK


async def _watched(
    cluster: Cluster, name: str | None, namespace: str | None, *, wide: bool
) -> Exit:
    """Until Ctrl-C."""
    latest: list[Line] = [line("")]

    async def look() -> list[Line]:
        if name is not None:
            one, _ = await read.shown(cluster, await read.cache(cluster, name, namespace))
            found: list[Shown] = [one]
            page = detail(one, now=read.now(), wide=wide)
        else:
            found, _ = await read.overview(cluster, namespace, wide=wide)
            page = overview(found, now=read.now(), wide=wide, width=width())
        latest[0] = brief(found)
        return page

    async def pages() -> AsyncIterator[list[Line]]:
        async for page, stale in Rounds(look):
            yield page if stale is None else [*page, line(""), line(Span(stale, Style.WARN))]

    await follow(pages(), lambda: latest[0])
    return Exit.OK


def brief(found: list[Shown]) -> Line:
    """For a log: one cache with its figures, or the count of all."""
    if len(found) != 1:
        return summary(found)
    one = found[0]
    done, total = one.bytes
    told = one.cache.headline
    share = f" {done * 100 // total}%" if total else ""
    return line(
        f"{one.cache.key} {one.state}{share}: {told.reason if told else 'New'}, {told.message if told else ''}"
    )


async def node(target: Target, name: str) -> Exit:
    async with connected(target) as cluster:
        found = await read.node(cluster, name)
        page = node_page.page(
            found,
            ready=await read.ready(cluster, name),
            events=await read.events(cluster, name),
            silence=await read.silence(cluster, found),
            now=read.now(),
        )
        show(page)
    return Exit.OK


async def explained(
    target: Target, name: str, node_name: str | None, namespace: str | None
) -> Exit:
    async with connected(target) as cluster:
        found = await read.cache(cluster, name, namespace)
        works = await read.nodes(cluster, {found.key})
        waiting = {}
        if works is not None and not_placed(found, works):
            waiting = (await read.why_not_placed(cluster, [found])).get(found.key, {})
        groups = nodes = None
        try:
            raw = await cluster.list(LOCAL_MODEL_NODE_GROUPS)
            groups = {group.name: group for group in map(parse.group, raw)}
            nodes = await read.kube_nodes(cluster)
        except NotAllowed as refused:
            say(f"Groups and nodes are not looked at. {refused.sentence}")
        not_ready = {node.name for node in (nodes or {}).values() if not node.ready}
        all_ = copies(found, works, waiting, not_ready)
        scene = explain.Scene(found, all_, groups, nodes, works)
        if node_name is None:
            show(explain.of_cache(scene, now=read.now()))
        else:
            show(explain.of_node(scene, node_name, now=read.now()))
    return Exit.OK


async def garbage(target: Target, namespace: str | None, *, dry_run: bool) -> Exit:
    if not dry_run:
        raise Problem(
            "gc deletes nothing by itself.",
            "add --dry-run to see what no service uses, and how it is deleted.",
            exit=Exit.USAGE,
        )
    async with connected(target) as cluster:
        seen = await read.caches(cluster, namespace)
        if seen.unseen:
            say(
                f"Not counted, because you may not list them: {', '.join(filter(None, seen.unseen))}."
            )
        show(unused.page(seen.caches, now=read.now()))
    return Exit.OK
