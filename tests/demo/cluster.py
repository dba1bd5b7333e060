"""The programs as pods on real nodes: install, fill, read, replace, lose power, uninstall. Takes root."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.cluster import kserve
from tests.demo.show import command, console, heading, say, watch
from tests.e2e import models, pods
from tests.e2e.site import NODES, OVERLAY, Site
from tests.support import binaries
from tests.support.cluster import AGENTS_NAMESPACE, REPOSITORY

_HALF_WAY = 150 << 20
_SECONDS = 120
_TEAM = "team-a"


def main() -> int:
    if os.geteuid() != 0:
        raise SystemExit("real nodes need root: namespaces, mounts and control groups are made")
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="localmodel-demo-"))
    try:
        heading(
            "Two nodes with containerd and a kubelet each, a third with a small disk; S3, a Hub"
        )
        with Site(folder) as site:
            play(site)
        console.print(f"\n[bold green]All as promised[/], in {time.monotonic() - started:.0f} s.")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def play(site: Site) -> None:
    show(site, "get nodes -o wide")

    heading(f"kubectl apply -k {OVERLAY}")
    site.install()
    show(site, "get pods -A -o wide")

    heading("An ONNX model from S3, a model from the Hub, and one large enough to watch")
    kserve.install(site.control_plane, kserve.INFERENCE)
    site.kubectl("create", "namespace", _TEAM)
    onnx, tiny = models.put_onnx(site), models.put_tiny(site)
    big = models.put_big(site, "big")
    site.add_cache("magika", onnx.uri)
    site.add_cache("tiny", tiny.uri)
    site.add_cache("big", big.uri, size="512Mi")
    watch(lambda: nodes(site), lambda _: half_way(site, "big"), seconds=_SECONDS)

    heading("All agents are replaced, half-way")
    show(site, f"rollout restart daemonset/localmodel-agent -n {AGENTS_NAMESPACE}")
    watch(lambda: nodes(site), lambda _: ready(site, "big"), seconds=_SECONDS)
    for node in NODES:
        size = site.bytes_done(node, "big") / 1e6
        say(f"{node}: its new agent fetched {site.bytes_moved(node) / 1e6:.0f} of {size:.0f} MB")

    heading("A pod mounts the claim of its namespace and runs the model")
    for name in ("magika", "tiny", "big"):
        show(site, f"wait --for=condition=Ready localmodelcache/{name} --timeout=60s")
    site.control_plane.apply(kserve.service("typist", _TEAM, "magika"))
    pod = pods.reader("typist", _TEAM, "magika-gpu-workers", onnx.uri, pods.INFERENCE)
    say(pods.run(site, pod).splitlines()[-1])
    show(site, f"get pvc,pods -n {_TEAM} -o wide")

    heading(f"{NODES[0]} loses power while it fills, and comes back")
    again = models.put_big(site, "again")
    site.add_cache("again", again.uri, size="512Mi")
    watch(lambda: nodes(site), lambda _: half_way(site, "again"), seconds=_SECONDS)
    site.cluster.nodes[NODES[0]].power_off()
    site.cluster.nodes[NODES[0]].start()
    watch(lambda: nodes(site), lambda _: ready(site, "again"), seconds=_SECONDS)

    heading("What kubectl shows")
    show(site, "get localmodelcache,localmodelnodegroup,localmodelnode -o wide")
    show(site, "describe localmodelcache again")
    show(site, f"describe pods -n {AGENTS_NAMESPACE}")

    heading("Every file against its source, by SHA-256")
    for node in NODES:
        for model in (onnx, tiny, big, again):
            if site.served(node, model.uri) != model.digests:
                raise SystemExit(f"{node} serves something else for {model.uri}")
        say(f"{node}: all equal")

    heading("Uninstalled: nothing is stuck, and the disks are empty")
    site.kubectl("delete", "namespace", _TEAM, "--timeout=60s")
    kserve.uninstall(site.control_plane)
    uninstall(site)
    for node in NODES:
        if any(site.served(node, model.uri) for model in (onnx, tiny, big, again)):
            raise SystemExit(f"{node} still holds models")


def uninstall(site: Site) -> None:
    kubectl = binaries.find(["kubectl"])["kubectl"]
    environment = {
        **os.environ,
        "KUBECONFIG": str(site.control_plane.admin_kubeconfig),
        "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["deploy/uninstall.sh"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=True,
    )
    command("deploy/uninstall.sh", "\n".join(done.stdout.splitlines()[-8:]))


def show(site: Site, line: str) -> None:
    command(f"kubectl {line}", site.kubectl(*line.split()))


def nodes(site: Site) -> list[dict[str, Any]]:
    text = site.kubectl("get", "localmodelnodes", "-o", "json")
    found: list[dict[str, Any]] = json.loads(text)["items"]
    return [item for item in found if item["metadata"]["name"] in NODES]


def half_way(site: Site, cache: str) -> bool:
    return all(site.bytes_done(node, cache) > _HALF_WAY for node in NODES)


def ready(site: Site, cache: str) -> bool:
    return site.condition(cache).get("status") == "True"


if __name__ == "__main__":
    sys.exit(main())
