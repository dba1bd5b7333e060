"""`plan`, `create` and `retry`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from controller.cli import read
from controller.cli.cluster import Cluster, cache_resource, connected, no_such
from controller.cli.kubeconfig import Target
from controller.cli.measure import Measured, measure, program
from controller.cli.outcome import Exit, Problem, say
from controller.cli.pages.plan import NOTHING_KNOWN, Contents, Fleet, plan, related, with_size
from controller.cli.pages.plan_page import as_data, page, unseen
from controller.cli.pages.text import Span, Style, counted, line, size, some
from controller.cli.screen import show, show_data
from controller.cli.wait import wait_for
from controller.cli.wish import Wish, from_file, fulfilled, measured
from shared.api.cache import NodeState
from shared.domain import parse
from shared.domain.views import CacheView
from shared.kube.resource import LOCAL_MODEL_NODE_GROUPS, ObjectKey


async def planned(
    target: Target, source: Path | Wish, namespace: str | None, *, offline: bool, output: str
) -> Exit:
    """0 when it fits on every node, 4 when it does not. Nothing is written. namespace: given beside a file, None when not."""
    async with connected(target) as cluster:
        if isinstance(source, Path):
            wire = from_file(source, namespace, cluster.namespace)
        else:
            wire = await _imagined(source, offline=offline)
        view = parse.cache(wire)
        found = None
        if isinstance(source, Path) or source.size != "auto":
            found = await measured(wire, offline=offline)
        if found is not None and found.bytes is not None and found.bytes > view.size:
            say(f"That is more than the declared {size(view.size)}: raise modelSize.")
        seen = await read.caches(cluster, None)
        fleet = await read.fleet(cluster, seen.caches)
        there = fleet.caches.get(view.key)
        if there is not None:
            view = replace(view, created=there.created)
        contents = NOTHING_KNOWN if offline else await _contents(view, found, fleet)
        result = plan(with_size(view, found.bytes if found else None), fleet, contents)
        if output in ("json", "yaml"):
            show_data(as_data(result), output)
        else:
            lines = page(result, in_use=fleet.in_use)
            missing = [what for what in seen.unseen if what]
            show([*lines, unseen(missing)] if missing else lines)
            _hint_groups(result.missing_groups, fleet)
    return Exit.OK if result.fits else Exit.NO


async def _contents(view: CacheView, found: Measured | None, fleet: Fleet) -> Contents:
    """What it shares with other revisions of its repository, as their source says; nothing where that cannot be asked."""
    command, others = program(), related(view, fleet.caches.values())
    if command is None or not others:
        return NOTHING_KNOWN
    asked: dict[str, Mapping[str, int]] = {}
    for other in others:
        try:
            asked[other.key] = (await _files_of(command, other)).contents
        except Problem as problem:
            say(f"What it shares with {other.key} is not counted. {problem.sentence}")
    return Contents((found or await _files_of(command, view)).contents, asked)


async def _files_of(command: str, view: CacheView) -> Measured:
    return await measure(
        command,
        view.uri,
        allow=tuple(view.wire.get("allowPatterns") or ()),
        ignore=tuple(view.wire.get("ignorePatterns") or ()),
        revision=view.revision,
    )


async def _imagined(wish: Wish, *, offline: bool) -> dict[str, Any]:
    if wish.size == "auto" and offline:
        text = "Offline, the size is not known."
        raise Problem(text, "give --size, such as --size 20Gi.", exit=Exit.USAGE)
    return await fulfilled(wish)


def _hint_groups(missing: tuple[str, ...], fleet: Fleet) -> None:
    for name in missing:
        say(f"Hint: {no_such('Node group', name, list(fleet.groups)).hint}")


async def printed(wish: Wish, output: str) -> Exit:
    """The manifest; no cluster is needed for it."""
    show_data(await fulfilled(wish), output)
    return Exit.OK


async def created(
    target: Target, wish: Wish, *, output: str, wait: bool, seconds: float | None
) -> Exit:
    wire = await fulfilled(wish)
    async with connected(target) as cluster:
        key = ObjectKey(wish.namespace, wire["metadata"]["name"])
        await _check(cluster, key, wish.groups)
        await cluster.create(wire)
        if output in ("json", "yaml"):
            show_data(wire, output)
        else:
            kind = wire["kind"].lower()
            show([line(f"{kind}/{key.name} created ({wire['spec']['modelSize']})")])
        if not wait:
            return Exit.OK
        return await wait_for(cluster, [str(key)], seconds=seconds, fail_fast=False)


async def _check(cluster: Cluster, key: ObjectKey, groups: tuple[str, ...]) -> None:
    """What the API server would not refuse, and nobody wants."""
    if await cluster.get(cache_resource(key.namespace), key.name, namespace=key.namespace):
        hint = "kubectl edit changes it; --name gives another name."
        raise Problem(f"Cache {key} exists already.", hint)
    try:
        known = [raw["metadata"]["name"] for raw in await cluster.list(LOCAL_MODEL_NODE_GROUPS)]
    except Problem:
        return  # who may not list groups may still name one
    for name in groups:
        if name not in known:
            raise no_such("Node group", name, known)


async def retried(target: Target, name: str, node: str | None, namespace: str | None) -> Exit:
    """The annotation reaches every node that holds the cache; only failed copies act on it."""
    async with connected(target) as cluster:
        found = await read.cache(cluster, name, namespace)
        all_ = (await read.shown(cluster, found))[0].copies
        failed = [copy.node for copy in all_ if copy.state is NodeState.DOWNLOAD_ERROR]
        if node is not None and node not in found.states:
            raise no_such(f"A copy of {found.key} on node", node, list(found.states))
        if node is not None and node not in failed:
            state = next(copy for copy in all_ if copy.node == node)
            show([line(f"Nothing failed on {node}: {state.reason}.")])
            return Exit.OK
        if not failed:
            show([line(f"No copy of {found.key} has failed: nothing to try again.")])
            return Exit.OK
        await cluster.retry(read.key_of(found.view), read.now().isoformat())
        others = [one for one in failed if one != node]
        told = f"{found.key} is tried again now on {node or some(failed)}"
        if node is not None and others:
            told += f", and on {counted(len(others), 'other node')} where it failed"
        show([line(Span(f"{told}.", Style.GOOD))])
    return Exit.OK
