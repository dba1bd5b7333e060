"""KServe's ConfigMap as the controller finds it, and as it changes while nobody looks."""

import asyncio
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from controller.configuration import ConfigurationWatch
from controller.liveness import Liveness
from controller.planning.configuration import CONFIG_MAP
from controller.router import Router
from controller.settings import ControllerSettings
from controller.world import World
from shared.kube.client import KubeClient
from shared.kube.metrics import KubeMetrics
from tests.unit.kube.wire import Answer, ApiServer, Stream, listing, write_kubeconfig

DISABLED: dict[str, Any] = {
    "metadata": {"name": CONFIG_MAP, "namespace": "kserve", "uid": "1", "resourceVersion": "5"},
    "data": {"localModel": '{"disableVolumeManagement": true}'},
}


async def test_a_configuration_that_is_deleted_before_it_is_watched_holds_no_more(
    folder: Path,
) -> None:
    settings, metrics = ControllerSettings(), KubeMetrics(CollectorRegistry())
    router = Router(World(), Liveness(lambda: 0.0), settings, metrics)
    async with ApiServer() as server:
        server.say(Answer(body=DISABLED), listing(version=7), Stream(then="silence"))
        client = await KubeClient.connect(
            kubeconfig=write_kubeconfig(folder / "kubeconfig", server.url),
            manager="tester",
            qps=1000,
            burst=1000,
        )
        watching = asyncio.create_task(ConfigurationWatch(client, router, settings, metrics).run())
        await server.until(2)
        assert router.world.serving.managed is False
        await server.until(3)
        assert router.world.serving.managed is True
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await client.close()
