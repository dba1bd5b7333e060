"""Looks after what others may change under us: our CRDs, and a webhook of the controller that we replace."""

import asyncio
from typing import Final

import structlog

from controller.planning.installed import LEFT_BEHIND, check_crds, check_webhook
from shared.api.crd import crds
from shared.domain.reasons import Reason
from shared.kube.client import KubeClient
from shared.kube.errors import ApiError, NotFound
from shared.kube.resource import CUSTOM_RESOURCE_DEFINITIONS, Resource
from shared.kube.transport import Wire

_WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    False,
)

log = structlog.get_logger(__name__)


class Installation:
    """`problems`: as last seen, by reason."""

    def __init__(self, client: KubeClient, *, pause: float) -> None:
        self.problems: dict[Reason, str] = {}
        self._client = client
        self._pause = pause
        self._ours = {crd["metadata"]["name"]: crd for crd in crds().values()}

    async def run(self) -> None:
        """Until cancelled: five small reads at a time."""
        while True:
            try:
                await self._look()
            except ApiError as error:
                log.info("installation not checked", why=error.message[:500])
            await asyncio.sleep(self._pause)

    async def _look(self) -> None:
        installed = {
            name: wire
            for name in self._ours
            if (wire := await self._get(CUSTOM_RESOURCE_DEFINITIONS, name)) is not None
        }
        found = (
            check_crds(self._ours, installed),
            check_webhook(await self._get(_WEBHOOKS, LEFT_BEHIND)),
        )
        problems = dict(problem for problem in found if problem is not None)
        for reason, message in problems.items():
            if self.problems.get(reason) != message:
                log.error("installation", reason=reason.value, message=message)
        self.problems = problems

    async def _get(self, resource: Resource, name: str) -> Wire | None:
        try:
            return await self._client.get(resource, name)
        except NotFound:
            return None
