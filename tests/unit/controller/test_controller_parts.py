"""Whatever part of a replica dies, or just ends: the process ends, so that the kubelet starts it again."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Never

import pytest

from controller.app import Controller
from controller.settings import ControllerSettings
from tests.unit.kube.wire import (
    Answer,
    ApiServer,
    Asked,
    Step,
    Stream,
    listing,
    refusal,
    write_kubeconfig,
)

# Where each part is run from.
PARTS = {
    "a watch": "controller.watches.Informer.run",
    "the services": "controller.app.ServiceWatch.run",
    "the configuration": "controller.app.ConfigurationWatch.run",
    "the installation": "controller.app.Installation.run",
    "the ear for agents": "controller.app.Controller._listen",
    "the workers": "controller.app.run_workers",
    "the herald's pen": "controller.app.EventRecorder.run",
    "a queue": "shared.kube.workqueue.WorkQueue.get",
    "the renewal of the lease": "shared.kube.election.LeaderElection._renew_until_lost",
}


def empty_cluster(asked: Asked) -> Step:
    """Which takes every Lease."""
    if asked.method != "GET":
        body = asked.body or {}
        return Answer(body={**body, "metadata": {**body["metadata"], "resourceVersion": "2"}})
    if asked.is_watch:
        return Stream(then="silence")
    return listing(version=1) if "limit" in asked.query else refusal(404)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        running.otherwise = empty_cluster
        yield running


@pytest.fixture
def controller(server: ApiServer, folder: Path) -> Controller:
    settings = ControllerSettings(
        http_host="127.0.0.1", http_port=0, agent_silence_seconds=0.5, lease_seconds=3
    )
    return Controller(settings, write_kubeconfig(folder / "kubeconfig", server.url), config=None)


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
async def test_a_part_that_fails_ends_the_replica_and_is_heard(
    controller: Controller, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async def fail(*_: Any, **__: Any) -> Never:
        raise ZeroDivisionError

    monkeypatch.setattr(part, fail)
    async with asyncio.timeout(20):
        with pytest.raises(ExceptionGroup) as failed:
            await controller.run(asyncio.Event())
    assert failed.group_contains(ZeroDivisionError)


@pytest.mark.parametrize("part", ["controller.watches.Informer.run", "controller.app.run_workers"])
async def test_a_part_that_ends_ends_the_replica_which_does_not_count_as_well(
    controller: Controller, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    async def end(*_: Any, **__: Any) -> None: ...

    monkeypatch.setattr(part, end)
    async with asyncio.timeout(20):
        assert await controller.run(asyncio.Event()) == 1


async def test_while_all_parts_live_it_leads_until_it_is_told_to_stop(
    controller: Controller, server: ApiServer
) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(2, stop.set)
    async with asyncio.timeout(20):
        assert await controller.run(stop) == 0
    assert "POST" in {asked.method for asked in server.asked if "/leases" in asked.path}


def crashed(folder: Path, config: str, *more: str) -> list[dict[str, Any]]:
    """What it logs before it ends with 1."""
    file = folder / "controller.yaml"
    file.write_text(config)
    done = subprocess.run(
        [sys.executable, "-m", "controller.app", "run", f"--config={file}", *more],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_crash_is_one_line_of_the_log(folder: Path) -> None:
    kubeconfig = write_kubeconfig(folder / "kubeconfig", "http://127.0.0.1:1")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = f"http_host: 127.0.0.1\nhttp_port: {port}\n"
        (line,) = crashed(folder, config, f"--kubeconfig={kubeconfig}")
    assert (line["event"], line["level"]) == ("crashed", "error")
    assert "address already in use" in line["exception"]


def test_without_any_api_server_to_go_to_it_says_so(folder: Path) -> None:
    *_, line = crashed(folder, "{}", f"--kubeconfig={folder / 'nowhere'}")
    assert line["event"] == "no Kubernetes API"
    assert "no usable Kubernetes configuration" in line["error"]
