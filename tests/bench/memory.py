"""What both programs hold in memory while nothing happens, on a real control plane, each with its own rights."""

import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench import content
from tests.bench.controller_objects import GROUP
from tests.bench.farm import BUCKET, COMMIT, OWNER, Farm
from tests.bench.report import markdown
from tests.support.cluster import Cluster
from tests.support.controlplane import ControlPlane
from tests.support.processes import wait_until
from tests.support.programs import Agent, Controller

MODELS = 50
# After which allocators have given back what they will, and the first rounds of looks are over.
_IDLE_SECONDS = 30.0
_FETCH_SECONDS = 180.0
_NODE = "bench"
# As installed; the tests' programs wait less.
_CONTROLLER = {"removal_grace_seconds": 300, "status_debounce_seconds": 1, "log_format": "json"}
_AGENT = {
    "heartbeat_seconds": 30,
    "check_seconds": 60,
    "progress_seconds": 5,
    "credentials_recheck_seconds": 60,
    "log_format": "json",
}
_COLUMNS = ("program", "RSS MiB", "PSS MiB", "anonymous MiB", "threads", "goal MiB")
_GOALS = {"agent": 120, "controller": 150}


def measure() -> list[dict[str, Any]]:
    """A row per program and state; prints the table."""
    with tempfile.TemporaryDirectory(prefix="localmodel-bench-") as temporary:
        folder = Path(temporary)
        names = [f"tiny-{n:02}" for n in range(MODELS)]
        made = [content.make(n, folder / "content" / BUCKET / n, 1) for n in names]
        with Farm(folder, made, hub=True) as farm, ControlPlane(folder / "plane") as plane:
            rows = _observe(plane, farm, folder / "programs")
    cells = [[str(value) for value in row.values()] for row in rows]
    print("\n".join(["\n### memory: after 30 s of idling", "", *markdown(_COLUMNS, cells)]))
    return rows


def _observe(plane: ControlPlane, farm: Farm, folder: Path) -> list[dict[str, Any]]:
    plane.apply_deploy()
    plane.add_node(_NODE, {"pool": "bench"})
    controller = Controller(plane, folder, settings=_CONTROLLER)
    agent = Agent(
        plane,
        folder,
        node=_NODE,
        settings={**_AGENT, "hf_endpoint": farm.url},
        environment={
            "AWS_ENDPOINT_URL_S3": farm.url,
            "AWS_ACCESS_KEY_ID": "BENCHBENCHBENCH00001",
            "AWS_SECRET_ACCESS_KEY": "not-looked-at",
            "STORAGE_EMULATOR_HOST": farm.url,
        },
    )
    try:
        controller.start_ready()
        agent.start_ready()
        rows = _rows(agent, controller, "nothing to do")
        _place(plane, list(farm.models))
        rows += _rows(agent, controller, f"has placed {MODELS} models")
        agent.stop()
        agent.start_ready()
        rows += _rows(agent, None, f"started with {MODELS} models")
    finally:
        agent.kill()
        controller.kill()
    return rows


def _place(plane: Cluster, names: list[str]) -> None:
    """By caches, from three kinds of sources; returns when all are on the node."""
    schemes = (f"s3://{BUCKET}/{{}}", f"gs://{BUCKET}/{{}}", f"hf://{OWNER}/{{}}:{COMMIT}")
    caches = [
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "LocalModelCache",
            "metadata": {"name": name},
            "spec": {
                "sourceModelUri": schemes[number % 3].format(name),
                "modelSize": "1Mi",
                "nodeGroups": [GROUP["metadata"]["name"]],  # type: ignore[index]
            },
        }
        for number, name in enumerate(names)
    ]
    plane.apply(GROUP, *caches)

    def here() -> bool:
        node = plane.get("localmodelnode", _NODE) or {}
        states = (node.get("status") or {}).get("modelStatus") or {}
        return list(states.values()) == ["ModelDownloaded"] * len(names)

    wait_until(here, seconds=_FETCH_SECONDS, what=f"{len(names)} models on the node", interval=1)


def _rows(agent: Agent, controller: Controller | None, state: str) -> list[dict[str, Any]]:
    time.sleep(_IDLE_SECONDS)
    rows = [_row("agent", agent.pid, state)]
    if controller is not None:
        rows.append(_row("controller", controller.pid, state))
    return rows


def _row(program: str, pid: int, state: str) -> dict[str, Any]:
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        found[name] = int(value.split()[0]) / 1024
    return {
        "program": f"{program}, {state}",
        "rss": round(found["Rss"]),
        "pss": round(found["Pss"]),
        "anonymous": round(found["Anonymous"]),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "goal": _GOALS[program],
    }
