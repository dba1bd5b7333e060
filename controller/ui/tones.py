"""Which colour a copy has on the page. Pure."""

import re
from enum import StrEnum
from typing import Final

from controller.planning.copies import Copy, Verdict, copy_on, known_reason
from controller.world import World
from shared.api.cache import NodeState
from shared.api.node import ModelState
from shared.domain.reasons import Reason
from shared.domain.uri import redact
from shared.domain.views import CacheView

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_LONGEST: Final = 1000  # characters of a message; a wall shows no more


class Tone(StrEnum):
    """Trouble first."""

    TROUBLE = "trouble"
    LOST = "lost"
    MOVING = "moving"
    WAITING = "waiting"
    LEAVING = "leaving"
    READY = "ready"


_LOST = frozenset({Reason.AGENT_SILENT, Reason.AGENT_MISSING, Reason.NODE_NOT_READY})


def tone(verdict: Verdict) -> Tone:
    if verdict.reason in _LOST:
        return Tone.LOST
    if verdict.available:
        return Tone.READY
    if verdict.blocked or verdict.state is NodeState.DOWNLOAD_ERROR:
        return Tone.TROUBLE
    if verdict.reason in (Reason.EVICTING, Reason.DELETING):
        return Tone.LEAVING
    return Tone.MOVING if verdict.state is NodeState.DOWNLOADING else Tone.WAITING


def shown_copy(world: World, cache: CacheView, node: str) -> Copy | None:
    """The copy as the page shows it, also one that is there no longer than its removal takes; None where none is, nor should be."""
    work = world.works.get(node)
    report = work.reports.get(cache.key) if work else None
    wanted = not world.groups_of.get(node, frozenset()).isdisjoint(cache.groups)
    if wanted and not cache.deleting:
        return copy_on(world, cache, node)
    if report is None or report.storage_key not in (None, cache.storage_key):
        return None
    state = _LEAVING.get(report.state, NodeState.DOWNLOAD_PENDING)
    reason = known_reason(report.reason, Reason.DELETING)
    if report.state is not ModelState.DOWNLOAD_ERROR:
        reason = Reason.DELETING if cache.deleting else Reason.EVICTING
    total, done = report.bytes_total or 0, report.bytes_done or 0
    return Copy(
        node,
        Verdict(state, reason, report.message or "", moving=True),
        done,
        total,
        report.revision,
    )


_LEAVING = {
    ModelState.DOWNLOADED: NodeState.DOWNLOADED,
    ModelState.DOWNLOADING: NodeState.DOWNLOADING,
    ModelState.DOWNLOAD_ERROR: NodeState.DOWNLOAD_ERROR,
}


def percent(copy: Copy) -> int:
    if copy.verdict.available:
        return 100
    return min(100, copy.bytes_done * 100 // copy.bytes_total) if copy.bytes_total > 0 else 0


def plain(text: str | None) -> str:
    """A message fit for everybody's eyes: no URL in it has user info, query or fragment, whoever wrote it."""
    return _URL.sub(lambda found: redact(found[0]), text or "")[:_LONGEST]
