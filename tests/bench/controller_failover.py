"""`python -m tests.bench.controller_failover`: two replicas, of which the leader is killed, then cut off; who wrote when.

The API server's audit log tells the replicas apart by their tokens, and proves that they never wrote at the same time.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.cluster.gateway import Gateway
from tests.cluster.scene import Scene
from tests.support.cluster import CONTROLLER_NAMESPACE
from tests.support.controlplane import ControlPlane
from tests.support.fleet import FleetThread
from tests.support.processes import wait_until
from tests.support.programs import Controller

_CREDENTIAL = "authentication.kubernetes.io/credential-id"
_WRITES = frozenset({"create", "update", "patch", "delete"})
_SIGNS = frozenset({"leases", "events"})


@dataclass(frozen=True)
class Write:
    at: datetime
    replica: str
    resource: str


def writes(audit: Path) -> Iterator[Write]:
    """Of controllers, leases and events left out, in the order in which they were answered."""
    for line in audit.read_text().splitlines():
        entry = json.loads(line)
        resource = entry.get("objectRef", {}).get("resource", "")
        user = entry["user"]
        if (
            user["username"].endswith(":localmodel-controller")
            and entry["verb"] in _WRITES
            and resource not in _SIGNS
            and entry.get("responseStatus", {}).get("code", 0) < 300
        ):
            at = datetime.fromisoformat(entry["stageTimestamp"])
            yield Write(at, user["extra"][_CREDENTIAL][0], resource)


def terms(found: list[Write]) -> list[str]:
    """Who wrote, turn by turn: a replica that appears twice in three turns wrote while another led."""
    turns: list[str] = []
    for write in sorted(found, key=lambda w: w.at):
        if not turns or turns[-1] != write.replica:
            turns.append(write.replica)
    return turns


def leads(replica: Controller) -> bool:
    return replica.running and bool(replica.state()["leading"])


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="localmodel-bench-")))
        plane = stack.enter_context(ControlPlane(folder, audit=True))
        plane.apply_deploy()
        stack.enter_context(FleetThread(plane.admin_kubeconfig))
        gateways = [stack.enter_context(Gateway(plane)) for _ in range(3)]
        replicas: list[Controller] = []
        for index, gateway in enumerate(gateways):
            own = plane.kubeconfig_for("localmodel-controller", CONTROLLER_NAMESPACE)
            kubeconfig = gateway.lead_through(own, folder / f"replica-{index}.kubeconfig")
            replica = Controller(
                plane, folder, name=f"replica-{index}", settings={}, kubeconfig=kubeconfig
            )
            stack.callback(replica.kill)
            replicas.append(replica)
            replica.start_ready()
            wait_until(lambda: leads(replicas[0]), seconds=30, what="the first leads")
        scene = Scene(plane)
        scene.add_group()
        for index in range(20):
            scene.add_node(f"n{index}")
        for turn, end in enumerate(("kill -9", "cut off")):
            scene.add_cache(f"before-{turn}")
            scene.wait(lambda turn=turn: scene.ready(f"before-{turn}"), "ready")  # type: ignore[misc]
            leader = next(i for i, replica in enumerate(replicas) if leads(replica))
            began = time.monotonic()
            if end == "kill -9":
                replicas[leader].kill()
            else:
                gateways[leader].cut()
            scene.add_cache(f"during-{turn}")
            scene.wait(
                lambda turn=turn: scene.ready(f"during-{turn}"),  # type: ignore[misc]
                "ready",
                seconds=90,
            )
            print(
                f"leader {end}: a cache made then is Ready after {time.monotonic() - began:.1f} s"
            )
            gateways[leader].cut(False)
        found = list(writes(plane.audit_log))
        turns = terms(found)
        alone = "never two at a time" if len(turns) == len(set(turns)) else f"MIXED: {turns}"
        print(f"{len(found)} writes in {len(turns)} terms, {alone}")


if __name__ == "__main__":
    main()
