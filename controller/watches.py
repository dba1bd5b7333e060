"""What the controller watches, and who is told of it."""

from typing import Any, TypeVar

import structlog

from controller.router import Router
from controller.ui.timeline import Timeline
from shared.domain import parse, serving
from shared.kube.client import KubeClient
from shared.kube.informer import Handler, Informer
from shared.kube.metrics import KubeMetrics
from shared.kube.resource import (
    LEASES,
    LOCAL_MODEL_CACHES,
    LOCAL_MODEL_NAMESPACE_CACHES,
    LOCAL_MODEL_NODE_GROUPS,
    LOCAL_MODEL_NODES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    ObjectKey,
)

T = TypeVar("T")

log = structlog.get_logger(__name__)


def watches(
    client: KubeClient,
    router: Router,
    timeline: Timeline | None,
    agents_namespace: str,
    metrics: KubeMetrics,
) -> list[Informer[Any]]:
    """To be run; `timeline`: None where nobody looks at it."""
    caches = Informer(client, LOCAL_MODEL_CACHES, parse.cache, metrics=metrics)
    namespaced = Informer(client, LOCAL_MODEL_NAMESPACE_CACHES, parse.cache, metrics=metrics)
    groups = Informer(client, LOCAL_MODEL_NODE_GROUPS, parse.group, metrics=metrics)
    nodes = Informer(client, NODES, parse.node, metrics=metrics)
    works = Informer(client, LOCAL_MODEL_NODES, parse.work, metrics=metrics)
    leases = Informer(client, LEASES, parse.lease, namespace=agents_namespace, metrics=metrics)
    volumes = Informer(client, PERSISTENT_VOLUMES, serving.volume, metrics=metrics)
    claims = Informer(client, PERSISTENT_VOLUME_CLAIMS, serving.claim, metrics=metrics)
    caches.on_change(router.cache)
    namespaced.on_change(router.cache)
    groups.on_change(router.group)
    nodes.on_change(router.node)
    works.on_change(router.work)
    leases.on_change(router.lease)
    volumes.on_change(router.volume)
    claims.on_change(router.claim)
    if timeline is not None:
        caches.on_change(_harmless(timeline.cache))
        namespaced.on_change(_harmless(timeline.cache))
        works.on_change(_harmless(timeline.work))
    return [caches, namespaced, groups, nodes, works, leases, volumes, claims]


def _harmless(handler: Handler[T]) -> Handler[T]:
    """A bug in what the page is told ends no watch."""

    def tell(key: ObjectKey, old: T | None, new: T | None) -> None:
        try:
            handler(key, old, new)
        except Exception:
            log.exception("page failed")

    return tell
