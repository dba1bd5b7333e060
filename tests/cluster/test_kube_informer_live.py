"""A local copy of a collection on a real API server, and a road to it that breaks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from shared.kube.client import KubeClient
from shared.kube.informer import Informer
from shared.kube.metrics import KubeMetrics
from shared.kube.resource import CONFIG_MAPS, ObjectKey
from shared.kube.transport import Wire
from tests.cluster.road import Road
from tests.support.controlplane import ControlPlane

NAMESPACE = "default"


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    made = await KubeClient.connect(
        kubeconfig=control_plane.admin_kubeconfig, manager="tester", qps=1000, burst=1000
    )
    yield made
    await made.close()


@pytest.fixture
async def road(control_plane: ControlPlane) -> AsyncIterator[Road]:
    async with Road(control_plane) as made:
        yield made


def config_map(name: str, group: str, **data: str) -> Wire:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"test": group}},
        "data": data,
    }


async def create(client: KubeClient, *bodies: Wire) -> list[Wire]:
    return [await client.create(CONFIG_MAPS, body, namespace=NAMESPACE) for body in bodies]


class Mirror:
    """An informer of one test's ConfigMaps; `deleted` is what it was told to be gone."""

    def __init__(self, client: KubeClient, group: str, metrics: KubeMetrics) -> None:
        self.informer = Informer(
            client,
            CONFIG_MAPS,
            lambda wire: dict(wire.get("data") or {}),
            namespace=NAMESPACE,
            label_selector=f"test={group}",
            metrics=metrics,
        )
        self.deleted: list[str] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.informer.on_change(self._note)

    def _note(self, key: ObjectKey, _: dict[str, str] | None, new: dict[str, str] | None) -> None:
        if new is None:
            self.deleted.append(key.name)
        task = asyncio.create_task(self._wake())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    @property
    def data(self) -> dict[str, dict[str, str]]:
        return {key.name: data for key, data in self.informer.snapshot().items()}

    async def holds(self, expected: dict[str, dict[str, str]]) -> None:
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: self.data == expected)


async def test_an_informer_follows_every_change(client: KubeClient) -> None:
    mirror = Mirror(client, "follow", KubeMetrics(CollectorRegistry()))
    await create(client, config_map("follow-1", "follow", a="1"))
    task = asyncio.create_task(mirror.informer.run())
    await mirror.holds({"follow-1": {"a": "1"}})
    await create(client, config_map("follow-2", "follow", b="2"))
    await client.merge_patch(CONFIG_MAPS, "follow-1", {"data": {"a": "3"}}, namespace=NAMESPACE)
    await mirror.holds({"follow-1": {"a": "3"}, "follow-2": {"b": "2"}})
    # Leaving the selection is as good as being deleted.
    relabel = {"metadata": {"labels": {"test": "left"}}}
    await client.merge_patch(CONFIG_MAPS, "follow-2", relabel, namespace=NAMESPACE)
    await client.delete(CONFIG_MAPS, "follow-1", namespace=NAMESPACE)
    await mirror.holds({})
    assert mirror.deleted == ["follow-2", "follow-1"]
    task.cancel()


@pytest.mark.parametrize("restarted", [False, True], ids=["network lost", "server restarted"])
async def test_what_is_deleted_while_the_server_is_out_of_reach_is_told_afterwards(
    control_plane: ControlPlane, client: KubeClient, road: Road, restarted: bool
) -> None:
    group = "restart" if restarted else "network"
    registry = CollectorRegistry()
    metrics = KubeMetrics(registry)
    through = await road.client("mirror", metrics=metrics)
    mirror = Mirror(through, group, metrics)
    stays, goes = f"{group}-stays", f"{group}-goes"
    await create(client, config_map(stays, group), config_map(goes, group))
    task = asyncio.create_task(mirror.informer.run())
    await mirror.holds({stays: {}, goes: {}})
    road.close()
    await client.delete(CONFIG_MAPS, goes, namespace=NAMESPACE)
    if restarted:
        # A new server remembers no version from before its start: 410.
        control_plane.apiserver.kill()
        control_plane.start()
    road.cut()
    road.open()
    await mirror.holds({stays: {}})
    assert mirror.deleted == [goes]
    lists = registry.get_sample_value("informer_lists_total", {"resource": "configmaps"})
    assert lists == (2 if restarted else 1)
    await create(client, config_map(f"{group}-comes", group))
    await mirror.holds({stays: {}, f"{group}-comes": {}})
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await through.close()


async def test_a_watch_that_falls_silent_is_given_up_and_what_it_missed_is_told(
    client: KubeClient, road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.kube.transport.REQUEST_SECONDS", 3.0)
    registry = CollectorRegistry()
    metrics = KubeMetrics(registry)
    through = await road.client("mirror", watch_silence=3.0, metrics=metrics)
    mirror = Mirror(through, "silent", metrics)
    await create(client, config_map("silent-goes", "silent"))
    task = asyncio.create_task(mirror.informer.run())
    await mirror.holds({"silent-goes": {}})
    before = breaks(registry)
    road.close()  # nobody is told: the connection stands, and nothing comes
    await client.delete(CONFIG_MAPS, "silent-goes", namespace=NAMESPACE)
    await create(client, config_map("silent-comes", "silent"))
    async with asyncio.timeout(30):
        while breaks(registry) == before:  # noqa: ASYNC110  # a metric tells nobody
            await asyncio.sleep(0.1)
    assert mirror.data == {"silent-goes": {}}
    road.open()
    await mirror.holds({"silent-comes": {}})
    assert mirror.deleted == ["silent-goes"]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await through.close()


def breaks(registry: CollectorRegistry) -> float:
    name = "informer_watch_breaks_total"
    return registry.get_sample_value(name, {"resource": "configmaps"}) or 0
