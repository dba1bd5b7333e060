"""Replicas of which the leader is killed, then cut off: who wrote when, by the API server's own audit log."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cluster.gateway import Gateway
from tests.cluster.scene import Scene
from tests.support.cluster import CONTROLLER_NAMESPACE
from tests.support.controlplane import ControlPlane
from tests.support.fleet import FleetThread
from tests.support.processes import wait_until
from tests.support.programs import Controller

LEASE_SECONDS = 4
# A try every half second, and requests on a machine that has other work.
_MORE_SECONDS = 3
_RECOVERY_SECONDS = 60.0
_CREDENTIAL = "authentication.kubernetes.io/credential-id"
_WRITES = frozenset({"create", "update", "patch", "delete"})


@dataclass(frozen=True)
class Write:
    """`replica`: the token that it came with."""

    at: datetime
    replica: str
    resource: str


class Replicas:
    """Three on an API server of their own that keeps an audit log, each behind a gateway and with a token of its own."""

    def __init__(self, plane: ControlPlane, folder: Path, stack: ExitStack) -> None:
        self._plane = plane
        self.gateways = [stack.enter_context(Gateway(plane)) for _ in range(3)]
        self.controllers: list[Controller] = []
        for index, gateway in enumerate(self.gateways):
            own = plane.kubeconfig_for("localmodel-controller", CONTROLLER_NAMESPACE)
            replica = Controller(
                plane,
                folder,
                name=f"replica-{index}",
                settings={"settle_seconds": 0.05, "lease_seconds": LEASE_SECONDS},
                kubeconfig=gateway.lead_through(own, folder / f"replica-{index}.kubeconfig"),
            )
            stack.callback(replica.kill)
            self.controllers.append(replica)
            replica.start_ready()

    def leader(self) -> int:
        def leads() -> list[int]:
            return [
                index
                for index, replica in enumerate(self.controllers)
                if replica.running and replica.state()["leading"]
            ]

        wait_until(lambda: len(leads()) == 1, seconds=30, what="one leads")
        return leads()[0]

    def writes(self, *, leases: bool) -> list[Write]:
        """Of all replicas, in the order in which they were answered: Leases, or all but those and events."""
        found = []
        for line in self._plane.audit_log.read_text().splitlines():
            entry = json.loads(line)
            resource = entry.get("objectRef", {}).get("resource", "")
            if (
                entry["user"]["username"].endswith(":localmodel-controller")
                and entry["verb"] in _WRITES
                and (resource == "leases" if leases else resource not in ("leases", "events"))
                and entry.get("responseStatus", {}).get("code", 0) < 300
            ):
                at = datetime.fromisoformat(entry["stageTimestamp"])
                found.append(Write(at, entry["user"]["extra"][_CREDENTIAL][0], resource))
        return sorted(found, key=lambda write: write.at)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("audited"), audit=True) as running:
        running.apply_deploy()
        with FleetThread(running.admin_kubeconfig):
            yield running


@pytest.fixture
def replicas(plane: ControlPlane, folder: Path) -> Iterator[Replicas]:
    with ExitStack() as stack:
        yield Replicas(plane, folder, stack)


@pytest.fixture
def scene(plane: ControlPlane) -> Scene:
    """A group `gpu` with ten ready nodes."""
    made = Scene(plane)
    made.add_group()
    for index in range(10):
        made.add_node(f"n{index}")
    return made


def terms(writes: list[Write]) -> list[str]:
    """Who wrote, turn by turn."""
    turns: list[str] = []
    for write in writes:
        if not turns or turns[-1] != write.replica:
            turns.append(write.replica)
    return turns


def test_a_killed_and_a_cut_off_leader_are_succeeded_in_time_and_never_do_two_write(
    replicas: Replicas, scene: Scene
) -> None:
    for turn in ("killed", "cut"):
        scene.add_cache(f"before-{turn}")
        scene.wait(lambda turn=turn: scene.ready(f"before-{turn}"), "ready")  # type: ignore[misc]
        leader = replicas.leader()
        if turn == "killed":
            replicas.controllers[leader].kill()
        else:
            replicas.gateways[leader].cut()
        scene.add_cache(f"during-{turn}")
        scene.wait(
            lambda turn=turn: scene.ready(f"during-{turn}"),  # type: ignore[misc]
            "nothing is lost",
            seconds=_RECOVERY_SECONDS,
        )
        replicas.gateways[leader].cut(False)
    assert replicas.leader() != leader

    turns = terms(replicas.writes(leases=False))
    assert len(turns) == len(set(turns)) == 3, "one after the other, and none twice"
    renewals = replicas.writes(leases=True)
    assert terms(renewals) == turns
    takeovers = [
        (new.at - last.at).total_seconds()
        for last, new in pairwise(renewals)
        if last.replica != new.replica
    ]
    assert len(takeovers) == 2
    assert max(takeovers) <= LEASE_SECONDS + _MORE_SECONDS
