"""Writes the docs' page of metrics: `python -m tests.monitoring.metrics_page [--check] [FILE]`.

It stands here because no package of the programs may know both of them.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agent.node.metrics import AgentMetrics
from agent.policy import SourcePolicy
from agent.transfer.budget import Budget
from agent.transfer.engine import Engine
from controller.metrics import FleetMetrics
from controller.world import World
from shared.kube.metrics import KubeMetrics
from shared.ops import generated
from shared.ops.metrics import LoopLag, new_registry

AGENT: Final = "localmodel-agent"
CONTROLLER: Final = "localmodel-controller"
_HEADER = """\
<!-- Generated from the programs' metrics by `python -m tests.monitoring.metrics_page`. -->
# Metrics

Both programs serve these at `/metrics`; [Monitoring](monitoring.md) says how to scrape them. The series of a histogram end in `_bucket`,
`_count` and `_sum`. Labels have few values: schemes, reasons, states, kinds of the API; never names or URIs. An
agent shows about 330 series and the controller about 400, however many caches there are.
"""
_CHAPTERS: Final = (
    ("Agent", ("localmodel_agent_",)),
    (
        "Fleet, by the controller",
        ("localmodel_caches", "localmodel_in", "localmodel_n", "localmodel_short", "localmodel_un"),
    ),
    ("Passes and queues", ("controller_runtime_", "workqueue_")),
    ("API server", ("rest_client_", "informer_", "event_recorder_", "leader_election_")),
    ("Process", ("",)),
)
# The agent has one loop, no leader and no events.
_CONTROLLER_ONLY: Final = (
    "workqueue_",
    "event_recorder_",
    "leader_election_",
    "controller_runtime_active_workers",
    "controller_runtime_max_concurrent_reconciles",
)
_ENDINGS: Final = {"counter": "_total", "info": "_info"}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric; name: as its series have it. labels: those of its series, without what a histogram adds."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...]


def page() -> str:
    """The whole page as Markdown."""
    shown = {AGENT: _shown(AGENT), CONTROLLER: _shown(CONTROLLER)}
    left = dict(sorted({**shown[AGENT], **shown[CONTROLLER]}.items()))
    parts = [_HEADER]
    for title, prefixes in _CHAPTERS:
        lines = [
            f"## {title}\n",
            "| metric | type | labels | programs | meaning |",
            "|---|---|---|---|---|",
        ]
        for name in [name for name in left if name.startswith(prefixes)]:
            family = left.pop(name)
            by = ", ".join(
                program.removeprefix("localmodel-")
                for program in (AGENT, CONTROLLER)
                if name in shown[program]
            )
            labels = ", ".join(f"`{label}`" for label in family.labels)
            meaning = family.meaning.replace("|", "\\|")
            lines.append(f"| `{name}` | {family.kind} | {labels} | {by} | {meaning} |")
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


def documented(program: str) -> set[tuple[str, str]]:
    """Series and type of each metric that the committed page says this program has."""
    text = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    return {
        (name.strip("`"), kind)
        for name, kind, _, by, *_ in rows
        if program.removeprefix("localmodel-") in by.split(", ")
    }


def families(text: str) -> set[tuple[str, str]]:
    """Series and type of each metric of which a program serves a sample."""
    parsed = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return {(_series(family.name, family.type), family.type) for family in parsed if family.samples}


def _shown(program: str) -> Mapping[str, Family]:
    """As the program registers them."""
    registry = new_registry(program)
    KubeMetrics(registry)
    LoopLag(registry)
    if program == AGENT:
        engine = Engine(Budget(), policy=SourcePolicy.unrestricted())
        AgentMetrics(registry).follow(engine)
    else:
        FleetMetrics(World(), registry, leading=lambda: True)
    labels = dict(_labels(registry))
    parsed = text_string_to_metric_families(generate_latest(registry).decode())  # type: ignore[no-untyped-call]
    return {
        name: Family(name, family.type, family.documentation, labels[family.name])
        for family in parsed
        if (name := _series(family.name, family.type))
        and not (program == AGENT and name.startswith(_CONTROLLER_ONLY))
    }


def _series(name: str, kind: str) -> str:
    return name + _ENDINGS.get(kind, "")


def _labels(registry: CollectorRegistry) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The registry shows labels only of series that are there."""
    for collector in registry._collector_to_names:
        for family in collector.collect():
            names = {label for sample in family.samples for label in sample.labels if label != "le"}
            given = getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ())
            yield family.name, tuple(given or sorted(names))


if __name__ == "__main__":
    sys.exit(generated.main("tests.monitoring.metrics_page", __doc__, Path("docs/metrics.md"), page()))  # fmt: skip
