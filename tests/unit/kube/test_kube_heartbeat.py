"""A node's sign of life, on a server that now and then is none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise

import pytest

from shared.kube.client import KubeClient
from shared.kube.heartbeat import Heartbeat
from tests.unit.kube.leases import Leases
from tests.unit.kube.wire import ApiServer, refusal


@pytest.fixture
async def leases(server: ApiServer, client: KubeClient) -> AsyncIterator[Leases]:
    kept = Leases(server)
    beat = Heartbeat(client, namespace="agents", name="node-1", identity="node-1")
    task = asyncio.create_task(beat.run())
    yield kept
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_lease_is_made_and_then_renewed_every_half_minute(
    server: ApiServer, leases: Leases
) -> None:
    await asyncio.sleep(300)
    spec = leases.spec("node-1")
    assert spec["holderIdentity"] == "node-1"
    assert spec["leaseDurationSeconds"] == 120
    writes = [asked for asked in server.asked if asked.method != "GET"]
    assert [asked.method for asked in writes] == ["POST"] + ["PUT"] * (len(writes) - 1)
    assert all(25 <= after.at - before.at <= 31 for before, after in pairwise(writes))
    assert len({asked.body["spec"]["renewTime"] for asked in writes}) == len(writes)
    # One request a renewal: thousands of nodes do this.
    assert len(server.asked) == len(writes) + 1


async def test_after_an_outage_the_next_sign_of_life_comes_within_seconds(
    server: ApiServer, leases: Leases
) -> None:
    await asyncio.sleep(45)
    healthy = server.otherwise
    server.otherwise = lambda _: refusal(500)
    await asyncio.sleep(120)
    server.otherwise = healthy
    count, back = len(server.asked), asyncio.get_running_loop().time()
    await server.until(count + 2)
    renewed = server.asked[-1]
    assert renewed.method == "PUT"
    # 5 s between tries, and a few more within one.
    assert renewed.at - back <= 15


@pytest.mark.parametrize("disturb", ["removed", "written by another"])
async def test_whatever_becomes_of_the_lease_it_is_back_within_seconds(
    server: ApiServer, leases: Leases, disturb: str
) -> None:
    await asyncio.sleep(45)
    if disturb == "removed":
        leases.kept.clear()
    else:
        leases.touch("node-1", holderIdentity="somebody")
    await asyncio.sleep(45)
    assert leases.spec("node-1")["holderIdentity"] == "node-1"


async def test_the_lease_belongs_to_the_node_as_soon_as_it_is_known_and_to_the_new_one_of_that_name(
    server: ApiServer, client: KubeClient
) -> None:
    leases = Leases(server)
    known: str | None = None
    beat = Heartbeat(client, namespace="agents", name="a", identity="a", node_uid=lambda: known)
    task = asyncio.create_task(beat.run())
    owners = []
    for uid in (None, "uid-1", "uid-2"):
        known = uid
        await asyncio.sleep(45)
        owners.append(leases.kept["a"]["metadata"].get("ownerReferences"))
    task.cancel()
    node = {"apiVersion": "v1", "kind": "Node", "name": "a"}
    assert owners == [None, [{**node, "uid": "uid-1"}], [{**node, "uid": "uid-2"}]]


async def test_a_refused_heartbeat_is_repeated_a_bounded_number_of_times(
    server: ApiServer, leases: Leases
) -> None:
    server.otherwise = lambda _: refusal(403, "Forbidden")
    await asyncio.sleep(600)
    assert 100 <= len(server.asked) <= 140
