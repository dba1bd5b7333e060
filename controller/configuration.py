"""KServe's ConfigMap, watched: absent means defaults, malformed means that the last good values stay.

When no good ones are known yet, no volume is made: nobody knows then whether they are ours to make.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import structlog

from controller.planning.configuration import (
    CONFIG_MAP,
    Configuration,
    misfit,
    read_configuration,
)
from controller.router import Router
from controller.settings import ControllerSettings
from shared.domain.reasons import Reason
from shared.kube.client import KubeClient
from shared.kube.errors import ApiError, Forbidden, NotFound
from shared.kube.events import EventRecorder, ObjectRef
from shared.kube.informer import Informer
from shared.kube.metrics import KubeMetrics
from shared.kube.resource import CONFIG_MAPS, ObjectKey
from shared.kube.transport import Wire

_RETRY_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    uid: str
    configuration: Configuration | None
    """None when it cannot be read."""
    defect: str = ""


class ConfigurationWatch:
    """Tells the world whether volumes are ours, and what is wrong with the configuration."""

    def __init__(
        self,
        client: KubeClient,
        router: Router,
        settings: ControllerSettings,
        metrics: KubeMetrics,
    ) -> None:
        self._client = client
        self._router = router
        self._settings = settings
        self._current: Configuration | None = None
        self._uid = ""
        self._recorder: EventRecorder | None = None
        self._informer = Informer(
            client,
            CONFIG_MAPS,
            _parse,
            namespace=settings.kserve_namespace,
            field_selector=f"metadata.name={CONFIG_MAP}",
            metrics=metrics,
        )
        self._informer.on_change(self._changed)

    async def run(self) -> None:
        """Until cancelled."""
        await self._look_once()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.run(), name="watch configmaps")
            group.create_task(self._look_again(), name="await configmaps")

    def tell(self, recorder: EventRecorder | None) -> None:
        """Who leads also says in events what is wrong."""
        self._recorder = recorder
        self._announce()

    async def _look_once(self) -> None:
        """Volumes wait for this answer. Who may not see the ConfigMap is not beside KServe."""
        while True:
            try:
                wire = await self._client.get(
                    CONFIG_MAPS, CONFIG_MAP, namespace=self._settings.kserve_namespace
                )
            except (NotFound, Forbidden):
                self._take(None)
                return
            except ApiError as error:
                log.info("configuration not read", why=error.message[:500])
                await asyncio.sleep(error.retry_after or _RETRY_SECONDS)
            else:
                self._take(_parse(wire))
                return

    async def _look_again(self) -> None:
        """What went before it was watched is told by nobody."""
        await self._informer.wait_synced()
        if self._uid and not self._informer.snapshot():
            self._take(None)

    def _changed(self, _: ObjectKey, old: _Seen | None, new: _Seen | None) -> None:
        if new != old:
            self._take(new)

    def _take(self, seen: _Seen | None) -> None:
        problem: tuple[Reason, str] | None = None
        self._uid = seen.uid if seen is not None else ""
        if seen is not None and seen.configuration is None:
            where = f"ConfigMap {self._settings.kserve_namespace}/{CONFIG_MAP}"
            until = "no volume is made" if self._current is None else "the last good values stay"
            problem = Reason.CONFIG_INVALID, f"{where}: {seen.defect}; {until} until it can be read"
        else:
            self._current = (seen and seen.configuration) or Configuration()
            problem = misfit(
                self._current,
                self._settings.kserve_namespace,
                self._settings.credentials_namespace,
            )
        if problem is not None:
            log.warning("configuration", reason=problem[0].value, message=problem[1])
        managed = None if self._current is None else self._current.managed
        self._router.configured(managed, problem)
        self._announce()

    def _announce(self) -> None:
        problem = self._router.world.problem
        if self._recorder is None or problem is None:
            return
        namespace = self._settings.kserve_namespace
        regarding = ObjectRef("v1", CONFIG_MAPS.kind, CONFIG_MAP, self._uid, namespace)
        self._recorder.event(
            regarding, type="Warning", reason=problem[0], message=problem[1], action="Configure"
        )


def _parse(wire: Wire) -> _Seen:
    data: dict[str, Any] = wire.get("data") or {}
    uid = str(wire["metadata"].get("uid", ""))
    try:
        return _Seen(uid, read_configuration(data))
    except ValueError as error:
        return _Seen(uid, None, str(error)[:500])
