"""What the commands read, and what they do without where the caller's rights end."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from controller.cli.cluster import CORE_EVENTS, Cluster, cache_resource, no_such
from controller.cli.outcome import NotAllowed, Problem
from controller.cli.pages.copies import copies, has_lost, not_placed
from controller.cli.pages.events import Happening, happenings
from controller.cli.pages.facts import CacheFacts, NodeFacts, cache_facts, moment, node_facts
from controller.cli.pages.node import Silence, is_silent
from controller.cli.pages.plan import Fleet
from controller.cli.pages.status import Shown
from shared.domain import forecast, parse
from shared.domain.placement import Waiting
from shared.domain.views import CacheView, NodeView
from shared.kube.resource import (
    LEASES,
    LOCAL_MODEL_CACHES,
    LOCAL_MODEL_NAMESPACE_CACHES,
    LOCAL_MODEL_NODE_GROUPS,
    LOCAL_MODEL_NODES,
    NODES,
    ObjectKey,
)

# Where agents are installed, and their Leases are; who installed them elsewhere sees the time of the last status.
AGENTS_NAMESPACE: Final = "localmodel-agents"


# Some 5 MiB of LocalModelNodes.
_FEW_COPIES: Final = 2000


@dataclass(frozen=True, slots=True)
class Seen:
    """Caches, and what could not be listed."""

    caches: list[CacheFacts]
    unseen: tuple[str, ...]


def now() -> datetime:
    return datetime.now(UTC)


async def caches(cluster: Cluster, namespace: str | None) -> Seen:
    """All that the caller may list; with a namespace, those of the namespace."""
    if namespace is not None:
        raw = await cluster.list(LOCAL_MODEL_NAMESPACE_CACHES, namespace=namespace)
        return Seen([cache_facts(one) for one in raw], ())
    found: list[CacheFacts] = []
    unseen: list[str] = []
    refused: NotAllowed | None = None
    for resource, where, what in (
        (LOCAL_MODEL_CACHES, None, "caches of the cluster"),
        (LOCAL_MODEL_NAMESPACE_CACHES, None, "caches of other namespaces"),
        (LOCAL_MODEL_NAMESPACE_CACHES, cluster.namespace, ""),
    ):
        try:
            raw = await cluster.list(resource, namespace=where)
        except NotAllowed as error:
            refused = refused or error
            unseen.append(what)
            if where is not None:
                raise refused from None
        else:
            found += [cache_facts(one) for one in raw]
            if resource is LOCAL_MODEL_NAMESPACE_CACHES:
                break
    return Seen(found, tuple(unseen))


async def cache(cluster: Cluster, name: str, namespace: str | None) -> CacheFacts:
    """`NAME` of the cluster, else of the context's namespace; `NAMESPACE/NAME`; or by -n."""
    before, slash, after = name.rpartition("/")
    if slash:
        places: list[str | None] = [before]
        name = after
    else:
        places = [namespace] if namespace is not None else [None, cluster.namespace]
    refused: NotAllowed | None = None
    for place in places:
        try:
            raw = await cluster.get(cache_resource(place), name, namespace=place)
        except NotAllowed as error:
            refused = refused or error
        else:
            if raw is not None:
                return cache_facts(raw)
    if refused is not None:
        raise refused
    seen = await caches(cluster, places[0] if slash else namespace)
    raise no_such("Cache", name, [one.key for one in seen.caches])


async def exactly(cluster: Cluster, key: str) -> CacheFacts:
    """By key alone: a namespace cache has its namespace in it."""
    before, slash, name = key.rpartition("/")
    place = before if slash else None
    raw = await cluster.get(cache_resource(place), name, namespace=place)
    if raw is None:
        raise Problem(f"Cache {key} has been deleted meanwhile.")
    return cache_facts(raw)


async def nodes(cluster: Cluster, only: Container[str] | None) -> dict[str, NodeFacts] | None:
    """None when the caller may not list them. only: keys of the caches that matter."""
    found = {}
    try:
        async for items in cluster.pages(LOCAL_MODEL_NODES):
            for raw in items:
                facts = node_facts(raw, only=only)
                found[facts.name] = facts
    except NotAllowed:
        return None
    return found


async def kube_nodes(cluster: Cluster) -> dict[str, NodeView]:
    return {node.name: node for raw in await cluster.list(NODES) for node in [parse.node(raw)]}


async def fleet(cluster: Cluster, known: list[CacheFacts]) -> Fleet:
    """What the planner needs. NotAllowed when nodes, groups or LocalModelNodes may not be listed."""
    groups = [parse.group(raw) for raw in await cluster.list(LOCAL_MODEL_NODE_GROUPS)]
    works = {}
    async for items in cluster.pages(LOCAL_MODEL_NODES):
        for raw in items:
            work = parse.work(raw)
            works[work.name] = work
    return Fleet(
        nodes=await kube_nodes(cluster),
        groups={group.name: group for group in groups},
        caches={one.key: one.view for one in known},
        works=works,
        in_use=frozenset(one.key for one in known if one.services),
    )


async def shown(cluster: Cluster, found: CacheFacts) -> tuple[Shown, tuple[str, ...]]:
    """A cache with its copies, and what of LocalModelNodes and Nodes would have told more and may not be listed."""
    works = await nodes(cluster, {found.key})
    made, refused = await _with_copies(cluster, [found], works)
    unseen = ("localmodelnodes",) if works is None else ()
    return made[0], (*unseen, *refused)


async def overview(
    cluster: Cluster, namespace: str | None, *, wide: bool
) -> tuple[list[Shown], Seen]:
    """Copies are read of those caches only whose figures move, or of all in a small fleet; why they are so, when `wide`."""
    seen = await caches(cluster, namespace)
    every = wide or sum(one.copies.get("total", 0) for one in seen.caches) <= _FEW_COPIES
    only = {one.key for one in seen.caches if every or not one.ready}
    works = await nodes(cluster, only) if only else None
    if wide and works is not None:
        made, refused = await _with_copies(cluster, seen.caches, works)
        return made, Seen(seen.caches, (*seen.unseen, *refused))
    return [
        Shown(one, copies(one, works) if works is not None and one.key in only else ())
        for one in seen.caches
    ], seen


async def _with_copies(
    cluster: Cluster,
    found: list[CacheFacts],
    works: dict[str, NodeFacts] | None,
) -> tuple[list[Shown], tuple[str, ...]]:
    not_ready: frozenset[str] | None = frozenset()
    if any(map(has_lost, found)):
        not_ready = await lost_nodes(cluster)
    late = [one for one in found if works is not None and not_placed(one, works)]
    waiting = await why_not_placed(cluster, late) if late else {}
    made = [Shown(one, copies(one, works, waiting.get(one.key), not_ready or ())) for one in found]
    return made, ("nodes",) if not_ready is None else ()


async def lost_nodes(cluster: Cluster) -> frozenset[str] | None:
    """Nodes that are not Ready; None when nodes may not be listed."""
    try:
        known = await kube_nodes(cluster)
    except NotAllowed:
        return None
    return frozenset(name for name, node in known.items() if not node.ready)


async def why_not_placed(
    cluster: Cluster, late: Iterable[CacheFacts]
) -> dict[str, dict[str, Waiting]]:
    """By cache and node, as the controller's planner has it; empty when the caller's rights do not reach so far."""
    try:
        known = (await caches(cluster, None)).caches
        all_ = await fleet(cluster, known)
    except NotAllowed:
        return {}
    return forecast.waiting(
        {one.key for one in late},
        nodes=all_.nodes.values(),
        groups=all_.groups,
        caches=all_.caches.values(),
        works=all_.works,
    )


async def node(cluster: Cluster, name: str) -> NodeFacts:
    raw = await cluster.get(LOCAL_MODEL_NODES, name)
    if raw is None:
        known = await nodes(cluster, ()) or {}
        raise no_such("LocalModelNode", name, list(known))
    return node_facts(raw)


async def ready(cluster: Cluster, name: str) -> bool | None:
    """None when it is not known."""
    try:
        raw = await cluster.get(NODES, name)
    except NotAllowed:
        return None
    return None if raw is None else parse.node(raw).ready


async def silence(cluster: Cluster, node: NodeFacts) -> Silence | None:
    """None while its agent is heard, as far as the caches that may be listed tell."""
    try:
        known = (await caches(cluster, None)).caches
    except NotAllowed:
        return None
    if not is_silent(node, known):
        return None
    try:
        lease = await cluster.get(LEASES, node.name, namespace=AGENTS_NAMESPACE)
    except NotAllowed:
        lease = None
    renewed = moment(((lease or {}).get("spec") or {}).get("renewTime"))
    return Silence(renewed or node.said)


async def events(cluster: Cluster, name: str) -> list[Happening] | None:
    """About a node. None when the caller may not list them."""
    selector = f"involvedObject.kind=Node,involvedObject.name={name}"
    try:
        return happenings(await cluster.list(CORE_EVENTS, field_selector=selector))
    except NotAllowed:
        return None


def key_of(view: CacheView) -> ObjectKey:
    return ObjectKey(view.namespace, view.name)
