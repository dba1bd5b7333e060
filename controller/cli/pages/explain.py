"""`explain`: the facts that led to a state, each a sentence, and what the table of reasons says of it. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from controller.cli.pages.copies import SHOWN, Bundle, Copy, bundles
from controller.cli.pages.facts import CacheFacts, NodeFacts, Told
from controller.cli.pages.text import (
    Line,
    Span,
    Style,
    ago,
    counted,
    line,
    size,
    some,
    span_of,
    until,
    wrapped,
)
from shared.api.cache import NodeState
from shared.domain.placement import belongs
from shared.domain.reason_rows import Course
from shared.domain.reason_table import row
from shared.domain.views import GroupView, NodeView

_WIDTH = 100
_BY_ITSELF = (Course.FINE, Course.MOVING)


@dataclass(frozen=True, slots=True)
class Scene:
    """What was read. None: it may not be read."""

    cache: CacheFacts
    copies: Sequence[Copy]
    groups: dict[str, GroupView] | None
    nodes: dict[str, NodeView] | None
    works: dict[str, NodeFacts] | None


def of_cache(scene: Scene, *, now: datetime, width: int = _WIDTH) -> list[Line]:
    """The whole cache, its nodes by state and reason."""
    cache, told = scene.cache, scene.cache.headline
    found = bundles(scene.copies)
    facts = [_wish(cache), *_groups(scene), *(_bundle(one, now) for one in found)]
    if cache.services:
        facts.append(f"Used by {some(cache.services)}.")
    if cache.observed is not None and cache.observed < cache.view.generation:
        facts.append("The controller has not looked at the latest change of its spec yet.")
    reasons = [told.reason] if told else []
    reasons += [one.first.reason for one in found]
    reasons += [t.reason for t in _broken(cache)]
    facts += [f"{t.reason}: {t.message}." for t in _broken(cache)]
    head = line(Span(cache.key, Style.HEAD), f" {_verdict(cache, told, now)}")
    node = found[0].first.node if found and len(found[0].copies) == 1 else None
    return [head, *_told(facts, reasons, cache, node, width)]


def of_node(scene: Scene, name: str, *, now: datetime, width: int = _WIDTH) -> list[Line]:
    """One copy: the chain from the node to the agent's last word."""
    cache = scene.cache
    copy = next((copy for copy in scene.copies if copy.node == name), None)
    facts = [*_place(scene, name), *_list(scene, name, copy)]
    if copy is not None:
        facts.append(_last_word(copy, now))
    state = SHOWN[copy.state] if copy else "not to be there"
    style = copy.style if copy else Style.DIM
    head = line(
        Span(cache.key, Style.HEAD), " on ", Span(name, Style.HEAD), " is ", Span(state, style), "."
    )
    return [head, *_told(facts, [copy.reason] if copy else [], cache, name, width)]


def _verdict(cache: CacheFacts, told: Told | None, now: datetime) -> str:
    if cache.view.deleting:
        return "is being deleted."
    if told is None:
        return "is new: the controller has not looked at it yet. Is the controller running?"
    since = f" for {ago(told.since, now)}" if told.since else ""
    if cache.ready:
        return f"is Ready{since}: {told.message}."
    how = "is stalled" if cache.stalled else "is not Ready yet"
    return f"{how}{since} ({told.reason}): {told.message}."


def _wish(cache: CacheFacts) -> str:
    view = cache.view
    revision = f", revision {view.revision}" if view.revision else ""
    return f"It wants {view.uri} ({size(view.size)} declared{revision}) on the nodes of node group {some(view.groups)}."


def _groups(scene: Scene) -> Iterable[str]:
    if scene.groups is None:
        return
    for name in scene.cache.view.groups:
        group = scene.groups.get(name)
        if group is None:
            yield f"Node group {name} does not exist; there are {some(scene.groups, 5) or 'none'}."
        elif group.defect:
            yield f"Node group {name} cannot be used: {group.defect}."
        elif scene.nodes is not None:
            members = [node for node in scene.nodes.values() if belongs(node, group)]
            ready = sum(node.ready for node in members)
            yield (
                f"Node group {name} has {counted(len(members), 'node')}, {ready:,} of them Ready, "
                f"and allows {size(group.limit)} of models on each."
            )


def _bundle(one: Bundle, now: datetime) -> str:
    nodes = f"{counted(len(one.copies), 'node')} ({some(one.nodes)})"
    many = len(one.copies) != 1
    first = one.first
    match first.state:
        case NodeState.DOWNLOADED if not first.lost:
            strength = f", verified by {one.verified_by}" if one.verified_by else ""
            return f"{nodes} {'hold' if many else 'holds'} it{strength}."
        case NodeState.DOWNLOADING:
            left = one.seconds_left
            eta = f", about {span_of(left)} left" if left is not None else ""
            done = f"{size(one.done)} of {size(one.total)}"
            return f"{nodes} {'fetch' if many else 'fetches'} it ({first.reason}): {done}{eta}."
        case NodeState.DOWNLOAD_ERROR:
            said = f" On {first.node}: {first.message}." if first.message else ""
            tries = max(copy.attempts or 0 for copy in one.copies)
            return f"{nodes} failed: {first.reason}.{said}{_next_try(tries, one.retry_at, now)}"
        case _:
            sentence = _sentence(first)
            return f"On {nodes} it is {SHOWN[first.state]} ({first.reason}): {sentence}."


def _sentence(copy: Copy) -> str:
    known = row(copy.reason)
    return copy.message or (known.sentence if known else copy.reason)


def _broken(cache: CacheFacts) -> list[Told]:
    """Conditions besides Ready that say that something is wrong, or worth knowing."""
    servable = cache.conditions.get("Servable")
    if servable is None:
        return []
    known = row(servable.reason)
    if servable.status == "True" and (known is None or known.course in _BY_ITSELF):
        return []
    return [servable]


def _place(scene: Scene, name: str) -> Iterable[str]:
    cache = scene.cache
    if scene.nodes is None or scene.groups is None:
        yield "Whether the node is Ready, and in which groups, is not shown: you may not list nodes and groups."
        return
    node = scene.nodes.get(name)
    if node is None:
        yield f"There is no node {name}; there are {some(scene.nodes, 5) or 'none'}."
        return
    yield f"Node {name} is {'Ready' if node.ready else 'not Ready'}."
    groups = [g for g in cache.view.groups if g in scene.groups and belongs(node, scene.groups[g])]
    if groups:
        yield f"It belongs to node group {groups[0]}, which {cache.key} names."
    else:
        yield f"No node group that {cache.key} names ({some(cache.view.groups)}) takes it, so it is not to hold the model."


def _list(scene: Scene, name: str, copy: Copy | None) -> Iterable[str]:
    if scene.works is None:
        yield "Its work list and its agent's answer are not shown: you may not list localmodelnodes."
        return
    work = scene.works.get(name)
    if work is None:
        if copy is not None:
            yield "The controller has not written a work list for the node yet."
        return
    if scene.cache.key in work.lines:
        yield "The model is on the node's work list."
    elif copy is not None:
        yield f"The model is not on the node's work list: {_sentence(copy)}."
    if work.version is None and work.observed is None:
        yield "No agent has ever answered there."
    elif work.observed is not None and work.observed < work.generation:
        yield "Its agent has not answered to the latest work list yet."
    else:
        yield "Its agent has answered to the latest work list."
    storage = work.conditions.get("StorageReady")
    if storage is not None and storage.status != "True":
        yield f"Its cache folder cannot be used: {storage.message}."


def _last_word(copy: Copy, now: datetime) -> str:
    parts = [f"The state is {SHOWN[copy.state]} ({copy.reason}): {_sentence(copy)}."]
    if copy.total and copy.state is not NodeState.DOWNLOADED and copy.done:
        parts.append(f"{size(copy.done)} of {size(copy.total)} are on its disk.")
    if copy.verified_by:
        parts.append(f"Verified by {copy.verified_by}.")
    return " ".join(parts) + _next_try(copy.attempts or 0, copy.retry_at, now)


def _next_try(tries: int, due: datetime | None, now: datetime) -> str:
    if due is None:
        return ""
    return f" Tried {counted(tries, 'time')}; the next try is {until(due, now).replace('now', 'due now')}."


def _told(
    facts: Iterable[str], reasons: Iterable[str], cache: CacheFacts, node: str | None, width: int
) -> list[Line]:
    lines = [line("")]
    for fact in facts:
        lines += wrapped("- ", fact, width)
    for reason in dict.fromkeys(reasons):
        lines += _advice(reason, cache, node, width)
    return lines


def _advice(reason: str, cache: CacheFacts, node: str | None, width: int) -> list[Line]:
    """Nothing for what is as it should be or goes its way."""
    known = row(reason)
    if known is None or (known.course in _BY_ITSELF and not known.action):
        return []
    lines = [line(""), line(Span(reason, Style.HEAD), f" ({known.course.value})")]
    for title, text in (
        ("What it means: ", known.meaning),
        ("What happens next: ", known.next),
        ("What you can do: ", known.action),
    ):
        if text:
            lines += wrapped(f"  {title}", _filled(text, cache, node), width)
    return lines


def _filled(text: str, cache: CacheFacts, node: str | None) -> str:
    """Commands with the names of this case; the marks around them are the docs'."""

    def fill(match: re.Match[str]) -> str:
        command = match[1].replace("CACHE", cache.key).replace("URI", cache.view.uri)
        return command.replace("NODE", node) if node else command

    return re.sub(r"`([^`]*)`", fill, text)
