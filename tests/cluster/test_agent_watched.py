"""What the agent's log and metrics tell those who only watch it."""

import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.domain.quantity import human_bytes
from shared.domain.reasons import Reason
from shared.domain.storage_key import storage_key
from tests.cluster.worklist import WorkList, metric, model
from tests.support.cluster import AGENTS_NAMESPACE
from tests.support.controlplane import ControlPlane
from tests.support.faults import FaultServer, Reply, Request, ranged
from tests.support.processes import wait_until
from tests.support.programs import Agent
from tests.support.servers.otlp import Collector

CONTENT = random.Random(3).randbytes(300_000)
_NUMBERS = itertools.count()


class Source:
    """One file over HTTP. trouble: "broken" answers 500; "silent" tells the size and then sends no byte."""

    def __init__(self) -> None:
        self.trouble: str | None = None

    def __call__(self, request: Request) -> Reply:
        if self.trouble == "broken":
            return Reply(500)
        if request.range is None:
            head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(CONTENT)}\r\nETag: "1"\r\n'
            return Reply(raw=f"{head}Connection: close\r\n\r\n".encode())
        reply = ranged(CONTENT, request, ETag='"1"')
        return replace(reply, stall_after=0) if self.trouble == "silent" else reply


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def url(source: Source) -> Iterator[str]:
    with FaultServer(source) as server:
        yield f"{server.url}/weights.bin?token=hidden"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        yield server


@pytest.fixture
def watched(
    control_plane: ControlPlane, folder: Path, collector: Collector
) -> Iterator[tuple[Agent, WorkList]]:
    """An agent that logs as in a cluster and sends traces, on a node of its own."""
    node = f"watched-{next(_NUMBERS)}"
    control_plane.add_node(node)
    settings = {"log_format": "json", "retry_seconds": 0.5, "retry_max_seconds": 0.5}
    agent = Agent(
        control_plane,
        folder,
        node=node,
        settings=settings,
        environment={
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
    )
    try:
        agent.start_ready()
        yield agent, WorkList(control_plane, node)
    finally:
        agent.kill()
        control_plane.remove_node(node)


def failing(agent: Agent, reason: Reason) -> float:
    return metric(agent.get("/metrics")[1], f'localmodel_agent_copies_failing{{reason="{reason}"}}')


def lines(agent: Agent, event: str) -> list[dict[str, Any]]:
    """What the log says of copies by this name."""
    found = [json.loads(text) for text in agent.log.read_text().splitlines() if text[:1] == "{"]
    return [one for one in found if one["event"] == event]


def test_a_copy_that_fails_counts_as_failing_while_it_is_tried_again_until_it_is_published(
    watched: tuple[Agent, WorkList], source: Source, url: str
) -> None:
    agent, work = watched
    source.trouble = "broken"
    work.set(model("llama", url))
    work.wait_report("llama", state="ModelDownloadError", reason=Reason.SOURCE_ERROR)
    assert failing(agent, Reason.SOURCE_ERROR) == 1
    source.trouble = "silent"
    again = work.wait_report("llama", state="ModelDownloading", reason=Reason.DOWNLOADING)
    assert again["attempts"] >= 2
    for _ in range(5):
        assert failing(agent, Reason.SOURCE_ERROR) == 1
        time.sleep(0.2)
    assert work.report("llama")["state"] == "ModelDownloading"
    source.trouble = None
    work.set()
    work.wait(lambda status: not status.get("models"), "nothing listed")
    assert failing(agent, Reason.SOURCE_ERROR) == 0


def test_a_copy_that_is_published_after_a_failure_no_longer_counts(
    watched: tuple[Agent, WorkList], source: Source, url: str
) -> None:
    agent, work = watched
    source.trouble = "broken"
    work.set(model("llama", url))
    work.wait_report("llama", state="ModelDownloadError")
    source.trouble = None
    work.wait_downloaded("llama")
    assert failing(agent, Reason.SOURCE_ERROR) == 0


def test_the_log_alone_tells_how_a_copy_went(
    watched: tuple[Agent, WorkList], source: Source, url: str
) -> None:
    agent, work = watched
    source.trouble = "broken"
    work.set(model("llama", url))
    work.wait_report("llama", state="ModelDownloadError")
    source.trouble = None
    done = work.wait_downloaded("llama")
    wait_until(lambda: bool(lines(agent, "copy published")), seconds=10, what="the line")
    first, *later = lines(agent, "copy started")
    assert later
    for line in (first, *later):
        assert line["level"] == "info"
        assert line["key"] == storage_key(url)
        assert line["uri"] == url.partition("?")[0]
        assert line["cause"] == "missing"
    failed, *_ = lines(agent, "copy failed")
    assert (failed["level"], failed["key"]) == ("warning", storage_key(url))
    assert failed["reason"] == Reason.SOURCE_ERROR
    assert "500" in failed["error"]
    assert failed["attempts"] == 1
    pause = datetime.fromisoformat(failed["next_try"]) - datetime.fromisoformat(failed["timestamp"])
    assert abs(pause) < timedelta(seconds=2)
    (published,) = lines(agent, "copy published")
    assert (published["level"], published["key"]) == ("info", storage_key(url))
    assert published["bytes"] == published["moved"] == len(CONTENT)
    assert (published["reused"], published["shared"], published["files"]) == (0, 0, 1)
    assert published["size"] == human_bytes(len(CONTENT))
    assert published["revision"] == done["revision"]
    assert published["verified_by"] == done["verifiedBy"]
    assert published["seconds"] > 0
    assert "hidden" not in agent.log.read_text()


def test_the_doctor_looks_beside_a_running_agent(
    watched: tuple[Agent, WorkList], control_plane: ControlPlane, url: str, folder: Path
) -> None:
    """As somebody in the agent's pod would run it."""
    agent, work = watched
    work.set(model("llama", url))
    work.wait_downloaded("llama")
    kubeconfig = control_plane.kubeconfig_for("localmodel-agent", AGENTS_NAMESPACE, node=agent.node)
    host, _, port = control_plane.url.removeprefix("https://").rpartition(":")
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", "doctor", "-o", "json", f"--kubeconfig={kubeconfig}", f"--config={folder / agent.name}.yaml"],
        env={**os.environ, "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 0, found
    assert f"in use by process {agent.pid} (" in found["folder"]["found"]
    assert "localmodel-agent" in found["folder"]["found"]
    assert found["clock"]["found"] == "agrees with the API server"
    listed = f"LocalModelNode {agent.node} lists 1 models"
    assert found["API server"]["found"] == f"answers; {listed}"
    assert work.report("llama")["state"] == "ModelDownloaded"


def test_each_attempt_is_a_trace(
    watched: tuple[Agent, WorkList], source: Source, url: str, collector: Collector
) -> None:
    agent, work = watched
    source.trouble = "broken"
    work.set(model("llama", url))
    failed = collector.wait_for("copy")
    assert failed.failed
    assert failed.attributes["localmodel.reason"] == Reason.SOURCE_ERROR
    source.trouble = None
    done = work.wait_downloaded("llama")
    agent.stop()
    copies = [span for span in collector.spans if span.name == "copy"]
    published = copies[-1]
    assert all(copy.failed for copy in copies[:-1])
    assert published.attributes == {
        "localmodel.key": storage_key(url),
        "localmodel.uri": url.partition("?")[0],
        "localmodel.outcome": "published",
        "localmodel.bytes": len(CONTENT),
        "localmodel.moved": len(CONTENT),
        "localmodel.verifiedBy": done["verifiedBy"],
    }
    assert published.resource["k8s.node.name"] == agent.node
    steps = [step.name for step in collector.below(published)]
    assert steps == ["resolve", "admit", "first_byte", "transfer", "verify", "verify", "publish"]
    assert all(b"hidden" not in body for body in collector.bodies)
