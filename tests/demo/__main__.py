"""Tells the story: apply, watch, kill, resume, fail, compare, delete."""

import argparse
import contextlib
import hashlib
import json
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from shared.domain.quantity import human_bytes
from tests.demo.show import command, console, heading, say, watch
from tests.demo.stage import BIG_BYTES, NODES, Stage

_KILL_AT = 0.4
_KINDS = "localmodelcache,localmodelnamespacecache,localmodelnodegroup,localmodelnode"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="localmodel-demo-"))
    try:
        with Stage(folder) as stage:
            play(stage)
            console.print(
                f"\n[bold green]All as promised[/], in {time.monotonic() - started:.0f} s."
            )
            if keep:
                stay(stage)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def play(stage: Stage) -> None:
    heading("A real etcd, kube-apiserver and kube-controller-manager; an S3 server; a Hub")
    stage.build()
    heading("The controller and three agents, each with the rights that deploy/ gives it")
    stage.start_programs()
    say(
        f"pids: controller {stage.controller.pid}, "
        + ", ".join(f"{n} {a.pid}" for n, a in stage.agents.items())
    )

    heading("A node group, and three caches: S3 (ONNX), S3 (1 GiB), Hugging Face")
    stage.control_plane.kubectl("apply", "-f", "deploy/examples/gpu-workers.yaml")
    with_keys = {"storage": {"key": "demo"}}
    models = stage.models
    stage.control_plane.apply(
        stage.cache("magika", models["magika"].uri, models["magika"].size, **with_keys),
        stage.cache("big", models["big"].uri, models["big"].size, **with_keys),
        stage.cache(
            "tiny",
            models["tiny"].uri,
            models["tiny"].size,
            allowPatterns=["*.safetensors", "*.json"],
        ),
    )
    victim = stage.agents[NODES[1]]
    watch(
        lambda: nodes(stage),
        lambda seen: _done(seen, victim.node) > _KILL_AT * BIG_BYTES,
        seconds=60,
    )

    heading(f"kill -9 of the agent on {NODES[1]}, half-way; then it starts again")
    victim.kill()
    done = _done(nodes(stage), victim.node)
    victim.start_ready()
    watch(
        lambda: nodes(stage),
        lambda seen: all(_downloaded(n) == {"magika", "big", "tiny"} for n in seen),
        seconds=90,
    )
    moved = _moved_after_restart(victim.output())
    spared = BIG_BYTES - moved
    say(
        f"{NODES[1]} had reported {human_bytes(done)} of the big model on disk when it died, "
        f"and fetched {human_bytes(moved)} after the restart: {human_bytes(spared)} were not fetched again."
    )
    if spared < 0.2 * BIG_BYTES:
        raise SystemExit("the agent did not resume")

    heading("What goes wrong says so: an object that is not there, a credential that is not there")
    stage.control_plane.apply(
        stage.cache("wrong-uri", "s3://models/no-such-model", "1Gi", **with_keys),
        stage.cache("no-credential", "s3://models/private", "1Gi", serviceAccountName="nobody"),
    )
    watch(
        lambda: nodes(stage),
        lambda seen: all(_failed(n) == {"wrong-uri", "no-credential"} for n in seen),
        seconds=30,
    )
    for name in ("wrong-uri", "no-credential"):
        status = f"jsonpath={{.status.models[?(@.key=='{name}')]}}"
        found = json.loads(
            stage.control_plane.kubectl("get", "localmodelnode", NODES[0], "-o", status)
        )
        say(
            f"[red]{name}[/]: {found['reason']}: {found['message']} (next try {found['nextRetryTime']})"
        )

    heading("What kubectl shows")
    time.sleep(1.5)
    for line in (
        f"get {_KINDS}",
        "get localmodelcache -o wide",
        "describe localmodelcache wrong-uri",
    ):
        command(f"kubectl {line}", stage.control_plane.kubectl(*line.split()))
    wait = "wait --for=condition=Ready localmodelcache/magika localmodelcache/big localmodelcache/tiny --timeout=30s"
    command(f"kubectl {wait}", stage.control_plane.kubectl(*wait.split()))

    heading("Every published file against its source, by SHA-256")
    for node, agent in stage.agents.items():
        count = sum(_compare(agent.models / m.folder, m.digests) for m in stage.models.values())
        say(f"{node}: {count} files equal")

    heading("Deleting the caches empties the disks")
    delete = "delete localmodelcache --all --timeout=60s"
    command(f"kubectl {delete}", stage.control_plane.kubectl(*delete.split()))
    for node, agent in stage.agents.items():
        left = [*_files(agent.models), *_files(agent.root / ".localmodel/staging")]
        say(f"{node}: {len(left)} files left")
        if left:
            raise SystemExit(f"{node} still holds {left}")


def stay(stage: Stage) -> None:
    say(
        f"\nLeft running; Ctrl-C ends it. Talk to it:\n"
        f"  export KUBECONFIG={stage.control_plane.admin_kubeconfig}\n"
        f"  kubectl get {_KINDS}\n"
        f"  curl http://127.0.0.1:{stage.controller.port}/debug/state\n"
        + "".join(
            f"  curl http://127.0.0.1:{a.port}/metrics   # {n}, root {a.root}\n"
            for n, a in stage.agents.items()
        )
        + f"Sources: s3 at {stage.s3.endpoint} (storage.key: demo), Hub at {stage.hub.endpoint}"
    )
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def nodes(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        stage.control_plane.kubectl("get", "localmodelnode", "-o", "json")
    )["items"]
    return found


def _models(node: dict[str, Any], state: str) -> set[str]:
    return {
        key
        for key, value in (node.get("status", {}).get("modelStatus") or {}).items()
        if value == state
    }


def _downloaded(node: dict[str, Any]) -> set[str]:
    return _models(node, "ModelDownloaded")


def _failed(node: dict[str, Any]) -> set[str]:
    return _models(node, "ModelDownloadError")


def _done(seen: list[dict[str, Any]], node: str) -> int:
    """Bytes of the big model that a node says it has."""
    for found in seen:
        for model in found.get("status", {}).get("models") or ():
            if found["metadata"]["name"] == node and model["key"] == "big":
                return model.get("bytesDone") or 0
    return 0


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _moved_after_restart(log: str) -> int:
    """What the last copy of the big model moved, from the agent's own log."""
    lines = [line for line in log.splitlines() if "copy published" in line and "models/big" in line]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", lines[-1])
    match = re.search(r"moved=(\d+)", plain)
    if match is None:
        raise SystemExit(f"no figure in: {plain}")
    return int(match[1])


def _compare(folder: Path, digests: dict[str, str]) -> int:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as content:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(
                    content, "sha256"
                ).hexdigest()
    if found != digests:
        raise SystemExit(f"{folder}: {found} is not {digests}")
    return len(found)


if __name__ == "__main__":
    sys.exit(main())
