"""Two contenders on a real API server, each with a road of its own to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from shared.kube.client import KubeClient
from shared.kube.election import LeaderElection
from shared.kube.errors import ApiError
from shared.kube.resource import CONFIG_MAPS, LEASES
from tests.cluster.road import Road
from tests.support.controlplane import ControlPlane

NAMESPACE = "default"
# Renewed every 0.4 s, given up after 2 s.
LEASE_SECONDS = 3


def now() -> float:
    return asyncio.get_running_loop().time()


class Writer:
    """Contends, and while it leads writes as fast as it can. `written`: when the server confirmed a write."""

    def __init__(self, identity: str, lease: str, elect: KubeClient, work: KubeClient) -> None:
        self.identity = identity
        self.election = LeaderElection(
            elect,
            namespace=NAMESPACE,
            name=lease,
            identity=identity,
            lease_seconds=LEASE_SECONDS,
        )
        work.fence_writes(self.election.seconds_left)
        self.written: list[float] = []
        self.ended: float | None = None
        self._work = work
        self._leads = asyncio.Event()
        self._object = f"{lease}-{identity}"
        self.task = asyncio.create_task(self.election.run(self._lead), name=identity)

    async def leads(self) -> None:
        async with asyncio.timeout(20):
            await self._leads.wait()

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def _lead(self) -> None:
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self._object, "namespace": NAMESPACE},
        }
        try:
            for number in range(1_000_000):
                with suppress(ApiError):
                    await self._work.apply(
                        CONFIG_MAPS, {**body, "data": {"n": str(number)}}, namespace=NAMESPACE
                    )
                    self.written.append(now())
                    self._leads.set()
                await asyncio.sleep(0.01)
        finally:
            self.ended = now()


Start = Callable[..., Awaitable[tuple[Writer, Road]]]


@pytest.fixture
async def start(control_plane: ControlPlane) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def run(identity: str, lease: str) -> tuple[Writer, Road]:
            road = await stack.enter_async_context(Road(control_plane))
            clients = [await road.client(identity) for _ in range(2)]
            for client in clients:
                stack.push_async_callback(client.close)
            writer = Writer(identity, lease, *clients)
            stack.push_async_callback(writer.stop)
            return writer, road

        yield run


@pytest.fixture
async def admin(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    client = await KubeClient.connect(
        kubeconfig=control_plane.admin_kubeconfig, manager="admin", qps=1000, burst=1000
    )
    yield client
    await client.close()


async def test_of_two_one_leads_and_its_end_hands_over_at_once(
    start: Start, admin: KubeClient
) -> None:
    (first, _), (second, _) = await start("a", "handover"), await start("b", "handover")
    waits = [asyncio.create_task(writer.leads()) for writer in (first, second)]
    done, waiting = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    assert (len(done), len(waiting)) == (1, 1)
    leader, other = (first, second) if first.written else (second, first)
    lease = await admin.get(LEASES, "handover", namespace=NAMESPACE)
    assert lease["spec"]["holderIdentity"] == leader.identity
    assert lease["spec"]["leaseDurationSeconds"] == LEASE_SECONDS
    await asyncio.sleep(LEASE_SECONDS + 1)
    assert not other.written
    stopped = now()
    await leader.stop()
    await asyncio.gather(*waits)
    assert other.written[0] - stopped < LEASE_SECONDS / 2
    assert leader.written[-1] < other.written[0]
    lease = await admin.get(LEASES, "handover", namespace=NAMESPACE)
    assert lease["spec"]["leaseTransitions"] == 1


@pytest.mark.parametrize("broken", [False, True], ids=["silent", "broken"])
async def test_a_leader_that_loses_the_server_writes_nothing_once_another_leads(
    start: Start, broken: bool
) -> None:
    lease = "lost-broken" if broken else "lost-silent"
    first, road = await start("a", lease)
    await first.leads()
    second, _ = await start("b", lease)
    road.close()
    if broken:
        road.cut()
    lost = now()
    await second.leads()
    assert first.ended is not None
    assert first.ended - lost <= LEASE_SECONDS
    assert first.ended < second.written[0]
    assert first.written[-1] < second.written[0]
    road.open()
    count = len(first.written)
    await asyncio.sleep(1)
    assert len(first.written) == count
    assert not second.task.done()


async def test_a_server_that_is_gone_for_a_moment_changes_no_leader(
    start: Start, admin: KubeClient
) -> None:
    first, road = await start("a", "moment")
    await first.leads()
    second, _ = await start("b", "moment")
    road.close()
    await asyncio.sleep(1)
    road.cut()
    road.open()
    before = len(first.written)
    await asyncio.sleep(LEASE_SECONDS)
    assert len(first.written) > before
    assert not second.written
    lease = await admin.get(LEASES, "moment", namespace=NAMESPACE)
    assert lease["spec"]["leaseTransitions"] == 0
