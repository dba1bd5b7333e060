"""What a collector of OpenTelemetry gets of a copy, over the wire."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from shared.domain.storage_key import storage_key
from tests.component.agent.terminal import Cli
from tests.support.processes import free_port
from tests.support.servers.otlp import Collector
from tests.support.servers.web import WebServer

MIB = 1 << 20
CONTENT = os.urandom(2 * MIB)
# Without the SDK, as `pip install localmodel[agent]` leaves it.
_WITHOUT = (
    "import sys; sys.modules['opentelemetry.sdk.trace'] = None; from agent.cli import main; main()"
)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        yield server


@pytest.fixture
def uri(web: WebServer) -> str:
    web.put("traced.bin", CONTENT)
    return f"{web.url}/traced.bin?signature=hidden"


def traced(collector: Collector, **environment: str) -> Cli:
    return Cli(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **environment)


def test_a_copy_is_a_span_with_its_steps_below_it(
    collector: Collector, uri: str, root: Path
) -> None:
    before = time.time_ns()
    done = traced(collector)("pull", uri, "--root", root, "--quiet")
    assert done.code == 0, done.err
    copy = collector.wait_for("copy")
    assert copy.attributes == {
        "localmodel.key": storage_key(uri),
        "localmodel.uri": uri.partition("?")[0],
        "localmodel.outcome": "published",
        "localmodel.bytes": len(CONTENT),
        "localmodel.moved": len(CONTENT),
        "localmodel.verifiedBy": "size",
    }
    assert copy.resource["service.name"] == "localmodel-agent"
    assert not copy.failed
    assert before <= copy.start < copy.end <= time.time_ns()
    steps = collector.below(copy)
    names = [step.name for step in steps]
    assert names == ["resolve", "admit", "first_byte", "transfer", "verify", "verify", "publish"]
    assert len(collector.spans) == len(steps) + 1
    for step in steps:
        assert copy.start <= step.start <= step.end <= copy.end
        assert not step.failed
    assert all(one.end <= two.start + 1000 for one, two in pairwise(steps))
    assert all(b"hidden" not in body for body in collector.bodies)


def test_a_copy_that_fails_says_where_and_why(
    collector: Collector, web: WebServer, root: Path
) -> None:
    named = traced(collector, OTEL_SERVICE_NAME="mine", OTEL_RESOURCE_ATTRIBUTES="team=ml")
    done = named("pull", f"{web.url}/absent.bin", "--root", root, "--quiet")
    assert done.code == 3
    copy = collector.wait_for("copy")
    assert copy.failed
    assert copy.message == "SourceNotFound"
    (resolve,) = collector.below(copy)
    assert (resolve.name, resolve.failed) == ("resolve", True)
    assert copy.attributes["localmodel.outcome"] == "failed"
    assert copy.attributes["localmodel.reason"] == "SourceNotFound"
    assert copy.resource["service.name"] == "mine"
    assert copy.resource["team"] == "ml"


@pytest.mark.parametrize(
    "off", [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}]
)
def test_nothing_is_sent_unless_it_is_asked_for(
    collector: Collector, uri: str, root: Path, off: dict[str, str]
) -> None:
    program = traced(collector, **off) if off else Cli()
    done = program("pull", uri, "--root", root, "--quiet")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert collector.bodies == []


def test_a_collector_that_is_not_there_hinders_nothing(uri: str, root: Path) -> None:
    program = Cli(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{free_port()}/v1/traces")
    started = time.monotonic()
    done = program("pull", uri, "--root", root, "--quiet")
    assert done.code == 0
    assert "Traceback" not in done.err
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin is not supported"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "not by OTLP protocol grpc"),
    ],
)
def test_what_is_not_supported_is_said_once_and_the_copy_comes(
    collector: Collector, uri: str, root: Path, environment: dict[str, str], says: str
) -> None:
    done = traced(collector, **environment)("pull", uri, "--root", root, "--quiet")
    assert done.code == 0
    assert done.err.count(says) == 1
    assert collector.bodies == []


def test_without_the_extra_one_line_says_so_and_the_copy_comes(
    collector: Collector, uri: str, root: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, "pull", uri, "--root", root, "--quiet"],
        env=traced(collector).environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the extra localmodel[tracing] is missing") == 1
    assert collector.bodies == []
