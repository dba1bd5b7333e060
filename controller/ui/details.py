"""One cache or one node in full, as the page's panel shows it. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Final

from controller.planning.copies import Copy
from controller.ui.timeline import Moment
from controller.ui.tones import Tone, percent, plain, shown_copy, tone
from controller.world import World
from shared.api.node import ModelState
from shared.domain.reason_table import TABLE
from shared.domain.reasons import Reason
from shared.domain.views import CacheView, ReportView

_NODES_NAMED: Final = 12
_LINES: Final = 100  # of a timeline
_ORDER: Final = {one: place for place, one in enumerate(Tone)}


def cache_page(world: World, key: str, moments: Iterable[Moment]) -> dict[str, Any] | None:
    cache = world.caches.get(key)
    if cache is None:
        return None
    names = world.expected(cache).keys() | {n for n, w in world.works.items() if key in w.reports}
    copies = [
        copy
        for name in sorted(names & world.nodes.keys())
        if (copy := shown_copy(world, cache, name)) is not None
    ]
    return {
        "name": cache.key,
        "kind": cache.kind,
        "uri": plain(cache.uri),
        "size": max(cache.size, world.sizes.get(key, 0)),
        "revision": cache.revision,
        "groups": cache.groups,
        "deleting": cache.deleting,
        "defect": plain(cache.defect) or None,
        "conditions": [
            {
                "type": c.type,
                "status": c.status,
                "reason": c.reason,
                "message": plain(c.message),
                "at": c.last_transition_time.isoformat(),
            }
            for c in cache.conditions
        ],
        "services": [
            f"{service.namespace}/{service.name}" for service in world.serving.services(key)
        ],
        "copies": _grouped(world, key, copies),
        "timeline": _timeline(world, cache, copies, moments),
    }


def node_page(world: World, name: str) -> dict[str, Any] | None:
    """Bytes of `disk` are None where nobody told them."""
    node = world.nodes.get(name)
    if node is None:
        return None
    work = world.works.get(name)
    disk = work.storage if work else None
    reports = work.reports if work else {}
    keys = {cache.key for cache in world.caches_on(name)} | reports.keys()
    models, folders = [], set[str]()
    for key in sorted(keys):
        cache, report = world.caches.get(key), reports.get(key)
        copy = shown_copy(world, cache, name) if cache else None
        if copy is None and report is None:
            continue
        model = _model(key, copy, report)
        folder = cache.storage_key if cache else (report.storage_key if report else None) or key
        model["shared"] = folder in folders
        folders.add(folder)
        models.append(model)
    models.sort(key=lambda m: (_ORDER[Tone(m["tone"])], -m["bytes"], m["name"]))
    return {
        "name": name,
        "ready": node.ready,
        "silent": name in world.silent,
        "groups": sorted(world.groups_of.get(name, ())),
        "disk": {
            "capacity": disk.capacity if disk else None,
            "free": disk.available if disk else None,
            "kept": disk.kept if disk else None,
            "models": disk.used if disk else None,
        },
        "models": models,
    }


def _model(key: str, copy: Copy | None, report: ReportView | None) -> dict[str, Any]:
    """A copy of a cache that is gone is on its way out."""
    reason = copy.verdict.reason if copy else Reason.EVICTING
    done = report.bytes_done if report else None
    if report is not None and report.state is ModelState.DOWNLOADED:
        done = report.bytes_total
    return {
        "name": key,
        "tone": tone(copy.verdict) if copy else Tone.LEAVING,
        "reason": reason.value,
        "message": plain(copy.verdict.told if copy else TABLE[reason].sentence),
        "percent": percent(copy) if copy else 0,
        "bytes": done or 0,
        "total": copy.bytes_total if copy else (report.bytes_total if report else None) or 0,
        "rate": report.rate if report else None,
        "retry": report.retry_at if report else None,
        "completed": report.completed if report else None,
    }


def _grouped(world: World, key: str, copies: Iterable[Copy]) -> list[dict[str, Any]]:
    """By what is told of them, trouble first."""
    groups: dict[tuple[Tone, Reason, str], list[str]] = defaultdict(list)
    for copy in copies:
        told = plain(copy.verdict.told)
        groups[tone(copy.verdict), copy.verdict.reason, told].append(copy.node)
    ranked = sorted(groups.items(), key=lambda g: (_ORDER[g[0][0]], -len(g[1]), g[0][1], g[0][2]))
    return [
        {
            "tone": tone_,
            "reason": reason.value,
            "message": message,
            "meaning": TABLE[reason].meaning,
            "next": TABLE[reason].next,
            "action": TABLE[reason].action,
            "count": len(nodes),
            "nodes": nodes[:_NODES_NAMED],
            "retry": _next_retry(world, key, nodes) if tone_ is Tone.TROUBLE else None,
        }
        for (tone_, reason, message), nodes in ranked[:_LINES]
    ]


def _next_retry(world: World, key: str, nodes: Iterable[str]) -> str | None:
    """The earliest time; timestamps of one form sort as text."""
    works = (world.works.get(name) for name in nodes)
    reports = (work.reports.get(key) for work in works if work)
    return min((r.retry_at for r in reports if r and r.retry_at), default=None)


def _timeline(
    world: World, cache: CacheView, copies: Iterable[Copy], moments: Iterable[Moment]
) -> list[dict[str, Any]]:
    """Newest first: what is written in the objects, and the moments that this replica saw."""
    lines = (
        [{"at": cache.created, "what": "created", "tone": Tone.WAITING}] if cache.created else []
    )
    lines += [
        {
            "at": c.last_transition_time.isoformat(),
            "what": f"{c.type} is {c.status}: {c.reason}",
            "tone": Tone.READY if (c.type, c.status) == ("Ready", "True") else Tone.MOVING,
        }
        for c in cache.conditions
    ]
    finished: Counter[str] = Counter()
    where: dict[str, str] = {}
    for copy in copies:
        work = world.works.get(copy.node)
        report = work.reports.get(cache.key) if work else None
        if report is not None and report.completed:
            minute = report.completed[:16]
            finished[minute] += 1
            where[minute] = max(where.get(minute, ""), f"{report.completed} {copy.node}")
    for minute, count in finished.items():
        at, _, name = where[minute].partition(" ")
        more = f" and {count - 1} more within the minute" if count > 1 else ""
        lines.append({"at": at, "what": f"complete on {name}{more}", "tone": Tone.READY})
    for moment in moments:
        more = f" and {moment.count - len(moment.nodes)} more"
        names = ", ".join(moment.nodes) + (more if moment.count > len(moment.nodes) else "")
        message = f": {plain(moment.message)}" if moment.message else ""
        lines.append(
            {
                "at": moment.at.isoformat(),
                "what": f"{moment.reason.value} on {names}{message}",
                "tone": _OF_STATE.get(moment.state, Tone.WAITING),
            }
        )
    return sorted(lines, key=lambda line: line["at"].replace("+00:00", "Z"), reverse=True)[:_LINES]


_OF_STATE = {
    ModelState.DOWNLOADED: Tone.READY,
    ModelState.DOWNLOADING: Tone.MOVING,
    ModelState.DOWNLOAD_ERROR: Tone.TROUBLE,
}
