"""Every query of the dashboard finds something in a Prometheus that watched both programs work, fail and repair."""

import base64
import hashlib
import json
import math
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from shared.domain.storage_key import storage_key
from tests.cluster.installation import Installation
from tests.monitoring import metrics_page, rules
from tests.monitoring.prometheus import Prometheus
from tests.monitoring.rules import DASHBOARD
from tests.support.controlplane import ControlPlane
from tests.support.faults import FaultServer, Reply, Request, ranged
from tests.support.programs import Program

MIB = 1 << 20
CONTENT = random.Random(1).randbytes(12 * MIB)
OTHER = random.Random(2).randbytes(10 * MIB)
# A copy then takes long enough for a few scrapes.
SLOW = 8 * MIB
# What nothing in the run below makes happen: its one node lives, files are read again after days, and keys wait for
# milliseconds.
NOTHING_THERE = {
    "Silent nodes",
    "Read again in the background",
    "Problems of the installation",
    "Queues",
    "Keys added and retried",
    "Watches",
}
ALERTING = {"LocalModelCopyFailing", "LocalModelCapacityShort", "LocalModelDamagedCopy"}
# Series that begin with the first such event.
ONLY_IN_TROUBLE = {
    ("informer_watch_breaks_total", "counter"),
    ("informer_refused_objects_total", "counter"),
}


def _queries() -> list[tuple[str, str]]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [
        (panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", ())
    ]


QUERIES = _queries()


def _stated(content: bytes) -> str:
    return f"Repr-Digest: sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


FILES = {
    "model.bin": CONTENT,
    "twin.bin": CONTENT,
    "again.bin": CONTENT,
    "cut.bin": OTHER,
    "lies.bin": OTHER,
}
# By name, the content whose digest is stated.
STATED = {"model.bin": CONTENT, "twin.bin": CONTENT, "lies.bin": CONTENT}


class Source:
    """Files over HTTP: two of one content with its digest, one that lies about its own, one that is cut off once."""

    def __init__(self) -> None:
        self._cut = False

    def __call__(self, request: Request) -> Reply:
        name = request.path.removeprefix("/")
        content = FILES.get(name)
        if content is None:
            return Reply(404)
        if request.range is None:
            lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(content)}", 'ETag: "1"']
            if name in STATED:
                lines.append(_stated(STATED[name]))
            return Reply(raw="\r\n".join([*lines, "Connection: close", "", ""]).encode())
        reply = ranged(content, request, ETag='"1"')
        if name == "cut.bin" and not self._cut:
            self._cut = True
            return Reply(reply.status, reply.headers, reply.body, cut_after=MIB)
        return reply


@dataclass(frozen=True)
class Seen:
    """What was watched, from when to when."""

    prometheus: Prometheus
    start: float
    end: float
    agent: Program
    controller: Program


@pytest.fixture(scope="module")
def seen(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("monitored")
    with Installation(control_plane, folder) as site, FaultServer(Source()) as source:
        site.add_group("watched", pool="watched")
        agent = site.add_node(
            "watched",
            {"pool": "watched"},
            max_bytes_per_second=SLOW,
            parallel_copies=2,
            connections=2,
            part_size_mib=2,
        )
        targets = [
            ({"job": "localmodel-agent", "node": "watched"}, agent.port),
            ({"job": "localmodel-controller", "node": "other"}, site.controller.port),
        ]
        with Prometheus(folder / "prometheus", targets, rules=rules.plain(folder)) as prometheus:
            start = time.time()
            _work(site, source.url, prometheus)
            yield Seen(prometheus, start, time.time(), agent, site.controller)
    control_plane.clear()


def _work(site: Installation, url: str, prometheus: Prometheus) -> None:
    """Copies that come, share, fail and wait; one is damaged and repaired, one goes; the disk is away for a moment."""
    for name in ("model", "cut", "lies", "missing"):
        site.add_cache(name, f"{url}/{name}.bin", "watched")
    site.add_cache("huge", f"{url}/huge.bin", "watched", modelSize="2Ti")
    site.wait_ready("model", "watched")
    for name in ("twin", "again"):
        site.add_cache(name, f"{url}/{name}.bin", "watched")
    for name in ("cut", "twin", "again"):
        site.wait_ready(name, "watched")
    root = site.agents["watched"].root
    away = root.rename(root.with_name("away"))
    root.mkdir()
    site.wait(lambda: prometheus.value("localmodel_agent_storage_ready") == 0, "no disk")
    root.rmdir()
    away.rename(root)
    site.wait(lambda: prometheus.value("localmodel_agent_storage_ready") == 1, "the disk again")
    damaged = site.agents["watched"].models / storage_key(f"{url}/cut.bin") / "cut.bin"
    damaged.chmod(0o644)
    damaged.write_bytes(b"rotten")
    site.delete_cache("twin")
    for query, least in (
        ("sum(localmodel_agent_copies_failing)", 2),
        ("localmodel_agent_damaged_copies_total", 1),
        ('localmodel_agent_copies_finished_total{outcome="published"}', 5),
        ("localmodel_agent_evictions_total", 1),
        ('absent(ALERTS{alertname="LocalModelStorageNotReady"})', 1),
        (f'count(count by (alertname) (ALERTS{{alertname=~"{"|".join(ALERTING)}"}}))', 3),
    ):
        site.wait(lambda q=query, n=least: (prometheus.value(q) or 0) >= n, query)  # type: ignore[misc]


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_every_query_finds_what_happened(title: str, query: str, seen: Seen) -> None:
    text = query.replace("$__rate_interval", "3s").replace("$__range", "1m").replace("$node", ".*")
    assert "$" not in text
    found = seen.prometheus.samples(text, start=seen.start, end=seen.end)
    assert found, "no series"
    values = [value for _, series in found for value in series]
    assert any(map(math.isfinite, values)), values
    happened = any(value > 0 for value in values)
    assert happened or title in NOTHING_THERE, "nothing but zeros"


def test_what_the_dashboard_asks_for_exists_and_each_panel_says_how_to_read_it(seen: Seen) -> None:
    names = set(seen.prometheus.get("label/__name__/values"))
    asked = {
        name
        for _, query in QUERIES
        for name in re.findall(
            r"\b(?:localmodel|rest_client|workqueue|controller_runtime)_\w+", query
        )
    }
    assert asked <= names
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Fleet", "Downloads", "Disk", "Failures", "Controller"]
    assert all(
        panel["fieldConfig"]["defaults"]["unit"] for panel in panels if panel["type"] != "row"
    )


def test_rules_are_evaluated_and_what_happened_is_about_to_alert(seen: Seen) -> None:
    groups = seen.prometheus.get("rules")["groups"]
    states = {
        rule["name"]: rule.get("state", rule["health"])
        for group in groups
        for rule in group["rules"]
    }
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    active = {name for name, state in states.items() if state not in {"ok", "inactive"}}
    assert active - {"LocalModelContentMismatch"} == ALERTING


@pytest.mark.parametrize(("program", "most"), [("agent", 400), ("controller", 500)])
def test_what_a_program_shows_is_documented_and_not_much(
    program: str, most: int, seen: Seen
) -> None:
    shown: Program = getattr(seen, program)
    text = shown.get("/metrics")[1]
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) < most
    documented = metrics_page.documented(f"localmodel-{program}")
    assert metrics_page.families(text) <= documented
    assert documented - metrics_page.families(text) <= ONLY_IN_TROUBLE
    for line in lines:
        assert "127.0.0.1" not in line
        assert "watched" not in line


def test_time_is_told_by_phase(seen: Seen) -> None:
    for phase in ("resolve", "admit", "first_byte", "transfer", "verify", "publish"):
        spent = seen.prometheus.value(f'localmodel_agent_phase_seconds_sum{{phase="{phase}"}}')
        assert spent, phase
    # 12 MiB at 8 MiB/s.
    transfer = seen.prometheus.value('localmodel_agent_phase_seconds_sum{phase="transfer"}')
    assert transfer is not None
    assert transfer > 1


def test_what_was_seen_is_what_happened(seen: Seen) -> None:
    def value(query: str) -> float | None:
        return seen.prometheus.value(query)

    assert value('localmodel_agent_copies_failing{reason="SourceNotFound"}') == 1
    assert value('localmodel_agent_copies_failing{reason="ChecksumMismatch"}') == 1
    assert (value("localmodel_agent_verification_failures_total") or 0) >= 2
    assert (value('localmodel_agent_retries_total{reason="SourceUnreachable"}') or 0) >= 1
    assert value('localmodel_agent_deduplicated_bytes_total{how="linked"}') == len(CONTENT)
    assert value('localmodel_agent_deduplicated_bytes_total{how="compared"}') == len(CONTENT)
    assert value('localmodel_unplaced_copies{reason="NoSpace"}') == 1
    assert (value("localmodel_short_bytes") or 0) >= 1 << 40
    assert value('leader_election_master_status{name="localmodel-controller"}') == 1
    assert value('localmodel_build_info{program="localmodel-agent"}') == 1


def test_the_folder_has_no_other_dashboard() -> None:
    assert [path.name for path in DASHBOARD.parent.iterdir()] == ["localmodel.json"]
