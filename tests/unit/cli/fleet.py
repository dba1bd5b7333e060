"""A fleet in memory, with the statuses that the controller's own planners write."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from controller.cli.pages.copies import copies
from controller.cli.pages.facts import CacheFacts, NodeFacts, cache_facts, node_facts
from controller.cli.pages.plan import Fleet
from controller.cli.pages.status import Shown
from shared.domain import parse
from shared.domain.placement import Waiting
from tests.unit.controller.builders import GIB, NOW, Cluster, cache, group, node, report

__all__ = ["GIB", "NOW", "Cluster", "cache", "group", "node", "report"]

LLAMA = "s3://models/llama"
LATER = NOW + timedelta(hours=2)
DISK = {
    "capacityBytes": 1000 * GIB,
    "availableBytes": 600 * GIB,
    "keptFreeBytes": 50 * GIB,
    "usedBytes": 300 * GIB,
}


def time(seconds: int) -> str:
    """So many seconds after LATER."""
    when: datetime = LATER + timedelta(seconds=seconds)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def done(key: str, uri: str = LLAMA, total: int = 130 * GIB) -> dict[str, Any]:
    return report(
        key,
        uri,
        reason="Published",
        message="17 files, 130 GiB",
        bytesTotal=total,
        bytesDone=total,
        verifiedBy="sha256",
        revision="rev1",
        completionTime=time(-3600),
    )


def loading(key: str, share: float, *, rate: int = GIB, uri: str = LLAMA) -> dict[str, Any]:
    return report(
        key,
        uri,
        "ModelDownloading",
        reason="Downloading",
        bytesTotal=130 * GIB,
        bytesDone=int(130 * GIB * share),
        bytesPerSecond=rate,
        attempts=1,
        revision="rev1",
        startTime=time(-60),
    )


def failed(
    key: str, reason: str, message: str, *, retry: int = 250, uri: str = LLAMA
) -> dict[str, Any]:
    return report(
        key,
        uri,
        "ModelDownloadError",
        reason=reason,
        message=message,
        attempts=4,
        nextRetryTime=time(retry),
    )


def facts(cluster: Cluster, key: str) -> CacheFacts:
    return cache_facts(cluster.stored["cache", key])


def works(cluster: Cluster, *only: str) -> dict[str, NodeFacts]:
    return {
        name: node_facts(wire, only=only or None)
        for (kind, name), wire in cluster.stored.items()
        if kind == "work"
    }


def not_ready(cluster: Cluster) -> frozenset[str]:
    views = fleet(cluster).nodes.values()
    return frozenset(view.name for view in views if not view.ready)


def shown(cluster: Cluster, key: str, waiting: Mapping[str, Waiting] | None = None) -> Shown:
    found = facts(cluster, key)
    return Shown(found, copies(found, works(cluster, key), waiting, not_ready(cluster)))


def fleet(cluster: Cluster, *in_use: str) -> Fleet:
    """What the plan looks at."""
    by_kind: dict[str, dict[str, Any]] = {}
    for (kind, key), wire in cluster.stored.items():
        by_kind.setdefault(kind, {})[key] = getattr(parse, kind)(wire)
    return Fleet(
        nodes=by_kind.get("node", {}),
        groups=by_kind.get("group", {}),
        caches=by_kind.get("cache", {}),
        works=by_kind.get("work", {}),
        in_use=frozenset(in_use),
    )
