"""Two replicas and one lease, with an API server that each of them may lose."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from shared.kube.client import KubeClient
from shared.kube.election import LeaderElection, Observed, may_take, must_stop
from shared.kube.metrics import KubeMetrics
from tests.unit.kube.leases import Leases
from tests.unit.kube.virtual_time import PATIENCE, now
from tests.unit.kube.wire import (
    ApiServer,
    Asked,
    Cut,
    Silence,
    Step,
    refusal,
    write_kubeconfig,
)

SECONDS = st.floats(0, 1000)


@given(SECONDS, st.integers(1, 100), SECONDS, SECONDS)
def test_a_leader_has_stopped_before_anybody_may_take_its_lease(
    sent: float, lease: int, delay: float, later: float
) -> None:
    seen = Observed(holder="a", version="1", duration=float(lease), at=sent + delay)
    if may_take(seen, identity="b", now=later):
        assert must_stop(sent, lease_seconds=lease, now=later)


def test_a_free_lease_and_our_own_may_be_taken_at_once() -> None:
    ours = Observed(holder="a", version="1", duration=15, at=100)
    released = Observed(holder="", version="1", duration=15, at=100)
    assert may_take(None, identity="a", now=100)
    assert may_take(ours, identity="a", now=100)
    assert may_take(released, identity="b", now=100)
    assert not may_take(ours, identity="b", now=115)
    assert may_take(ours, identity="b", now=115.1)


class Replica:
    """A contender. `spans`: from when to when its work ran; `grip`: seconds that the work takes to end."""

    def __init__(self, identity: str, client: KubeClient, metrics: KubeMetrics) -> None:
        self.election = LeaderElection(
            client, namespace="system", name="lead", identity=identity, metrics=metrics
        )
        self.identity = identity
        self.spans: list[tuple[float, float | None]] = []
        self.grip = 0.0
        self._started = asyncio.Condition()
        self._task = asyncio.create_task(self.election.run(self._lead), name=identity)

    async def _lead(self) -> None:
        async with self._started:
            self.spans.append((now(), None))
            self._started.notify_all()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(self.grip)
            self.spans[-1] = (self.spans[-1][0], now())

    @property
    def working(self) -> bool:
        return bool(self.spans) and self.spans[-1][1] is None

    async def leads(self) -> None:
        async with asyncio.timeout(PATIENCE), self._started:
            await self._started.wait_for(lambda: self.working)

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


Start = Callable[[str], Awaitable[Replica]]


class Network:
    """Each replica's way to the server; `lost` says what a replica gets instead of answers."""

    def __init__(self, leases: Leases) -> None:
        self.leases = leases
        self.lost: dict[str, Step] = {}

    def respond(self, asked: Asked) -> Step:
        return self.lost.get(asked.headers["User-Agent"]) or self.leases.respond(asked)


@pytest.fixture
def network(server: ApiServer) -> Network:
    network = Network(Leases(server))
    server.otherwise = network.respond
    return network


@pytest.fixture
async def start(
    server: ApiServer, network: Network, metrics: KubeMetrics, tmp_path: Path
) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def run(identity: str) -> Replica:
            client = await KubeClient.connect(
                kubeconfig=write_kubeconfig(tmp_path / identity, server.url),
                manager=identity,
                qps=100,
                burst=100,
            )
            stack.push_async_callback(client.close)
            replica = Replica(identity, client, metrics)
            stack.push_async_callback(replica.stop)
            return replica

        yield run


async def test_only_one_leads_for_as_long_as_it_renews(start: Start, network: Network) -> None:
    first = await start("a")
    await first.leads()
    second = await start("b")
    await asyncio.sleep(600)
    assert first.working
    assert second.spans == []
    assert network.leases.spec("lead")["holderIdentity"] == "a"
    assert network.leases.spec("lead")["leaseTransitions"] == 0


async def test_a_leader_that_stops_hands_over_within_seconds(
    start: Start, network: Network
) -> None:
    first = await start("a")
    await first.leads()
    second = await start("b")
    await asyncio.sleep(20)
    stopped = now()
    await first.stop()
    await second.leads()
    assert now() - stopped <= 3
    assert network.leases.spec("lead")["leaseTransitions"] == 1


@pytest.mark.parametrize("instead", [Silence(), Cut(), refusal(500), refusal(403), refusal(429)])
async def test_who_loses_the_server_has_stopped_before_the_other_starts(
    start: Start, network: Network, instead: Step
) -> None:
    first = await start("a")
    await first.leads()
    second = await start("b")
    await asyncio.sleep(60)
    first.grip = 3
    network.lost["a"] = instead
    lost_at = now()
    await second.leads()
    (_, ended), (begun, _) = first.spans[0], second.spans[0]
    assert ended is not None
    assert ended <= begun
    # Ten seconds without a renewal, and the three that the work takes; then the rest of the lease's fifteen.
    assert ended - lost_at <= 10 + 3
    assert begun - lost_at <= 15 + 3
    assert not first.election.leading


async def test_nothing_may_be_written_once_the_lease_has_run_out_however_slow_the_work_ends(
    start: Start, network: Network
) -> None:
    first = await start("a")
    await first.leads()
    second = await start("b")
    await asyncio.sleep(60)
    first.grip = 1000
    network.lost["a"] = Silence()
    await second.leads()
    assert first.working
    assert first.election.seconds_left() <= 0


async def test_a_short_outage_costs_no_leadership(start: Start, network: Network) -> None:
    first = await start("a")
    await first.leads()
    second = await start("b")
    for instead in (refusal(500), Cut(), Silence()):
        await asyncio.sleep(30)
        network.lost |= {"a": instead, "b": instead}
        await asyncio.sleep(6)
        network.lost.clear()
    await asyncio.sleep(30)
    assert len(first.spans) == 1
    assert first.working
    assert second.spans == []


async def test_who_was_cut_off_contends_again_when_the_server_is_back(
    start: Start, network: Network
) -> None:
    only = await start("a")
    await only.leads()
    network.lost["a"] = refusal(500)
    await asyncio.sleep(60)
    assert not only.working
    network.lost.clear()
    await only.leads()
    assert network.leases.spec("lead")["holderIdentity"] == "a"


async def test_a_lease_that_another_took_is_noticed_at_the_next_renewal(
    start: Start, network: Network
) -> None:
    first = await start("a")
    await first.leads()
    network.leases.touch("lead", holderIdentity="b")
    taken = now()
    await asyncio.sleep(5)
    assert not first.working
    ended = first.spans[0][1]
    assert ended is not None
    assert ended - taken <= 5
    assert network.leases.spec("lead")["holderIdentity"] == "b"


async def test_a_renewal_that_the_end_cuts_short_does_not_keep_the_lease(
    server: ApiServer, start: Start, network: Network
) -> None:
    first = await start("a")
    await first.leads()
    stored = asyncio.Event()

    def stores_without_answer(asked: Asked) -> Step:
        network.respond(asked)
        stored.set()
        server.otherwise = network.respond
        return Silence()

    server.otherwise = stores_without_answer
    await stored.wait()
    await first.stop()
    assert network.leases.spec("lead")["holderIdentity"] == ""


async def test_work_that_ends_or_fails_gives_the_lease_back(
    client: KubeClient, network: Network
) -> None:
    election = LeaderElection(client, namespace="system", name="lead", identity="a")

    async def fails() -> None:
        assert election.leading
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await election.run(fails)
    assert network.leases.spec("lead")["holderIdentity"] == ""
    await election.run(lambda: asyncio.sleep(1))
    assert network.leases.spec("lead")["holderIdentity"] == ""
    assert not election.leading


async def test_who_leads_is_seen_in_the_metrics(
    start: Start, network: Network, registry: CollectorRegistry
) -> None:
    first = await start("a")
    await first.leads()
    labels = {"name": "lead"}
    assert registry.get_sample_value("leader_election_master_status", labels) == 1
    await first.stop()
    assert registry.get_sample_value("leader_election_master_status", labels) == 0


async def test_two_that_find_no_lease_do_not_both_lead(start: Start, network: Network) -> None:
    replicas = [await start(identity) for identity in "abcde"]
    await asyncio.sleep(60)
    assert sum(replica.working for replica in replicas) == 1
    assert len({holder for _, holder in network.leases.history}) == 1
