"""An API server that fails, restarts and forgets: the controller neither hammers it nor loses anything."""

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.cluster.gateway import Gateway
from tests.cluster.scene import Scene
from tests.cluster.worklist import metric
from tests.support.cluster import CONTROLLER_NAMESPACE
from tests.support.controlplane import ControlPlane
from tests.support.fleet import FleetThread
from tests.support.processes import wait_until
from tests.support.programs import Controller

LEASE_SECONDS = 4
# Twelve watches, each of which asks up to four times before it waits longer and longer, and the lease.
_MOST_A_SECOND = 20
_RECOVERY_SECONDS = 40.0


@pytest.fixture(scope="module")
def gateways(control_plane: ControlPlane) -> Iterator[tuple[Gateway, Gateway]]:
    with Gateway(control_plane) as first, Gateway(control_plane) as second:
        yield first, second


@pytest.fixture(scope="module")
def replicas(
    control_plane: ControlPlane,
    gateways: tuple[Gateway, Gateway],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Controller, Controller]]:
    """Two, each behind a gateway of its own; the first was there first."""
    made: list[Controller] = []
    for index, gateway in enumerate(gateways):
        folder = tmp_path_factory.mktemp("replica")
        own = control_plane.kubeconfig_for("localmodel-controller", CONTROLLER_NAMESPACE)
        settings = {"settle_seconds": 0.05, "lease_seconds": LEASE_SECONDS}
        replica = Controller(
            control_plane,
            folder,
            name=f"replica-{index}",
            settings=settings,
            kubeconfig=gateway.lead_through(own, folder / "kubeconfig"),
        )
        made.append(replica)
        replica.start_ready()
        wait_until(lambda: leads(made[0]), seconds=20, what="the first leads")
    yield made[0], made[1]
    for replica in made:
        replica.stop()


@pytest.fixture
def scene(
    control_plane: ControlPlane, replicas: tuple[Controller, Controller], fleet: FleetThread
) -> Iterator[Scene]:
    """A group `gpu` with the ready node a."""
    made = Scene(control_plane)
    made.add_group()
    made.add_node("a")
    yield made
    made.clean()


def leads(replica: Controller) -> bool:
    return bool(replica.state()["leading"])


def listed(replica: Controller) -> float:
    """How often it listed all caches."""
    return metric(replica.get("/metrics")[1], 'informer_lists_total{resource="localmodelcaches"}')


def leader_of(replicas: tuple[Controller, Controller]) -> int:
    """Index of the one that leads."""
    wait_until(lambda: sum(map(leads, replicas)) == 1, seconds=30, what="one leads")
    return [leads(replica) for replica in replicas].index(True)


def compact(control_plane: ControlPlane) -> None:
    """etcd forgets every version but the current one."""

    def ask(path: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
        request = urllib.request.Request(  # our own server
            f"http://127.0.0.1:{control_plane.etcd_port}/v3/kv/{path}",
            data=json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            found: dict[str, dict[str, str]] = json.load(answer)
            return found

    revision = ask("range", {"key": "AA=="})["header"]["revision"]
    ask("compaction", {"revision": revision, "physical": True})


def sit_out(gateways: tuple[Gateway, Gateway], seconds: float) -> list[float]:
    """Requests a second through each gateway, from now on for so long."""
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > seconds, seconds=2 * seconds, what="the outage")
    return [len(each.since(began)) / seconds for each in gateways]


def test_a_storm_of_refusals_is_sat_out_with_few_requests(
    scene: Scene, gateways: tuple[Gateway, Gateway]
) -> None:
    scene.add_cache("before")
    scene.wait(lambda: scene.ready("before"), "works before")
    rates = []
    for answer in (503, 500, 429):
        for each in gateways:
            each.cut()  # the watches too
            each.answer = answer
            each.cut(False)
        scene.add_cache(f"during-{answer}")
        rates += sit_out(gateways, 3)
    scene.delete("localmodelcache", "before")
    for each in gateways:
        each.answer = None
    assert max(rates) <= _MOST_A_SECOND, rates
    assert sum(rates[-2:]) < sum(rates[:2]), "calmer as time goes by"
    scene.wait(
        lambda: all(scene.ready(f"during-{answer}") for answer in (503, 500, 429)),
        "made meanwhile",
        seconds=_RECOVERY_SECONDS,
    )
    scene.wait(
        lambda: scene.read("localmodelcache", "before") is None,
        "deleted meanwhile",
        seconds=_RECOVERY_SECONDS,
    )


def test_a_restarted_api_server_that_forgot_the_past_is_listed_anew(
    scene: Scene,
    control_plane: ControlPlane,
    gateways: tuple[Gateway, Gateway],
    replicas: tuple[Controller, Controller],
) -> None:
    scene.add_cache("before")
    scene.wait(lambda: scene.ready("before"), "works before")
    lists = [listed(replica) for replica in replicas]
    for each in gateways:
        each.cut()
    scene.delete("localmodelcache", "before")
    scene.add_cache("during")
    rates = sit_out(gateways, 3)
    assert max(rates) <= _MOST_A_SECOND, rates
    compact(control_plane)
    control_plane.apiserver.kill()
    control_plane.start()
    for each in gateways:
        each.cut(False)
    scene.wait(lambda: scene.ready("during"), "made meanwhile", seconds=_RECOVERY_SECONDS)
    scene.wait(
        lambda: scene.read("localmodelcache", "before") is None,
        "deleted meanwhile",
        seconds=_RECOVERY_SECONDS,
    )
    scene.wait(
        lambda: all(listed(replica) > n for replica, n in zip(replicas, lists, strict=True)),
        "listed anew, not watched from where it was",
        seconds=_RECOVERY_SECONDS,
    )


def test_who_loses_the_network_or_dies_is_succeeded_within_the_lease_and_writes_no_more(
    scene: Scene,
    gateways: tuple[Gateway, Gateway],
    replicas: tuple[Controller, Controller],
) -> None:
    old = leader_of(replicas)
    new = 1 - old
    scene.add_cache("m")
    scene.wait(scene.ready, "works before")
    began = time.monotonic()
    gateways[old].cut()
    scene.add_cache("n")
    wait_until(lambda: leads(replicas[new]), seconds=30, what="the other leads")
    assert time.monotonic() - began < 3 * LEASE_SECONDS
    taken = time.monotonic()
    gateways[old].cut(False)
    scene.wait(lambda: scene.ready("n"), "nothing is lost")
    scene.wait(lambda: "another leads" in replicas[old].output(), "the old leader looks again")
    assert not leads(replicas[old])
    assert "leadership lost" in replicas[old].output()
    assert [p for p in gateways[old].since(began) if p.decides and p.passed] == []
    assert [
        p for p in gateways[new].since(began) if p.decides and p.at < taken - LEASE_SECONDS
    ] == []
    replicas[new].kill()
    scene.add_cache("o")
    scene.wait(lambda: scene.ready("o"), "nothing is lost", seconds=_RECOVERY_SECONDS)
    replicas[new].start_ready()
