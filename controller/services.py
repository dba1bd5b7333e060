"""Services that use a cache, of whatever kinds and versions the cluster has, now or later."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from controller.router import Router
from controller.serving import INFERENCE_SERVICE, LLM_INFERENCE_SERVICE
from shared.api.meta import GROUP
from shared.domain.serving import CACHE_LABEL, ServiceView, service
from shared.kube.client import KubeClient
from shared.kube.informer import Informer
from shared.kube.metrics import KubeMetrics
from shared.kube.resource import ObjectKey, Resource

SERVICES: Final = (
    Resource(GROUP, "v1beta1", "inferenceservices", INFERENCE_SERVICE, True),
    Resource(GROUP, "v1alpha2", "llminferenceservices", LLM_INFERENCE_SERVICE, True),
    Resource(GROUP, "v1alpha1", "llminferenceservices", LLM_INFERENCE_SERVICE, True),
)


class ServiceWatch:
    """A kind that is not installed has no services; one whose list fails is unknown, and nothing is said of its services.

    A kind with two versions is known by either: an object that both show is counted once.
    """

    def __init__(
        self, client: KubeClient, router: Router, recheck_seconds: float, metrics: KubeMetrics
    ) -> None:
        """`recheck_seconds`: between looks for a kind that is not installed."""
        self._router = router
        self._informers: list[Informer[ServiceView]] = []
        for resource in SERVICES:
            informer = Informer(
                client,
                resource,
                partial(service, kind=resource.kind),
                label_selector=CACHE_LABEL,
                optional=True,
                recheck_seconds=recheck_seconds,
                metrics=metrics,
            )
            informer.on_change(self._handler(resource.version))
            self._informers.append(informer)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run(), name=f"watch {informer.resource.plural}")
                group.create_task(self._await(informer), name=f"await {informer.resource.plural}")

    def _handler(
        self, version: str
    ) -> Callable[[ObjectKey, ServiceView | None, ServiceView | None], None]:
        def changed(_: ObjectKey, old: ServiceView | None, new: ServiceView | None) -> None:
            self._router.service(version, old, new)

        return changed

    async def _await(self, informer: Informer[ServiceView]) -> None:
        await informer.wait_synced()
        kind = informer.resource.kind
        versions = [i for i in self._informers if i.resource.kind == kind]
        if _known(versions):
            self._router.services_known(kind)


def _known(versions: Iterable[Informer[ServiceView]]) -> bool:
    """One version that is served tells all; that none is served takes the answers of all."""
    found = list(versions)
    return any(i.synced and i.installed for i in found) or all(i.synced for i in found)
