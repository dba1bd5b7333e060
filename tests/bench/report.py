"""Tables for people, JSON for comparing."""

import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.clients import OURS
from tests.bench.loads import DISK, LIMITS, Load
from tests.bench.measure import Run

_COLUMNS = (
    "client",
    "wall s",
    "durable s",
    "MB/s",
    "CPU s/GB",
    "peak MiB",
    "time / ours",
    "of disk",
    "sent MB",
)


class Result:
    """All runs of one load. size: bytes of the models. failures: by client, why it is not in the table."""

    def __init__(self, load: Load, size: int, disk_bytes: int) -> None:
        self.load, self.size, self.disk_bytes = load, size, disk_bytes
        self.runs: dict[str, list[Run]] = {}
        self.failures: dict[str, str] = {}

    @property
    def ours(self) -> str | None:
        """Which of our rows others are compared with: the agent as it runs, where that was measured."""
        return next((name for name in reversed(OURS) if name in self.runs), None)

    def add(self, client: str, run: Run) -> None:
        self.runs.setdefault(client, []).append(run)

    def row(self, client: str) -> list[str]:
        size = self.disk_bytes if client == DISK else self.size
        wall = self.median(client, "wall")
        rate = size / wall / 1e6
        ours = f"{wall / self.median(self.ours, 'wall'):.2f}" if self.ours else "-"
        disk = "-"
        if DISK in self.runs:
            disk = f"{rate * self.median(DISK, 'wall') / self.disk_bytes * 1e6:.2f}"
        durable = wall + self.median(client, "settle")
        return [
            client,
            f"{wall:.2f}",
            "-" if client in LIMITS else f"{durable:.2f}",
            f"{rate:.0f}",
            f"{self.median(client, 'cpu') / size * 1e9:.2f}",
            f"{self.median(client, 'peak') / 2**20:.0f}",
            "-" if client == DISK else ours,
            disk,
            f"{self.median(client, 'moved') / 1e6:.0f}",
        ]

    def table(self) -> str:
        """Fastest first, limits last."""
        order = sorted(self.runs, key=lambda name: (name in LIMITS, self.median(name, "wall")))
        rows = [self.row(name) for name in order]
        others = [run.others for runs in self.runs.values() for run in runs]
        lines = [
            f"### {self.load.name}: {self.load.title}",
            "",
            *markdown(_COLUMNS, rows),
            "",
            f"{self.size / 1e9:.2f} GB. Medians of {max(map(len, self.runs.values()))}; cores that others used {min(others):.1f} to {max(others):.1f}.",
            *(f"Absent: {name}: {why}" for name, why in self.failures.items()),
        ]
        return "\n".join(lines)

    def data(self) -> dict[str, Any]:
        return {
            "load": self.load.name,
            "title": self.load.title,
            "bytes": self.size,
            "disk_bytes": self.disk_bytes,
            "clients": {
                name: {**_spread(runs), "runs": [asdict(run) for run in runs]}
                for name, runs in self.runs.items()
            },
            "absent": self.failures,
        }

    def median(self, client: str, name: str) -> float:
        values: list[float] = [getattr(run, name) for run in self.runs[client]]
        return statistics.median(values)


def machine() -> Mapping[str, Any]:
    """What the figures were measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "cpu": cpu,
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def save(
    path: Path,
    results: Sequence[Result],
    memory: Sequence[Mapping[str, Any]],
    goals: Sequence[Mapping[str, Any]],
    versions: Sequence[str],
) -> None:
    """All runs, so that nothing has to be measured again to be looked at in another way."""
    found = {
        "machine": machine(),
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "peers": list(versions),
        "transfers": [result.data() for result in results],
        "goals": list(goals),
        "memory": list(memory),
    }
    path.write_text(json.dumps(found, indent=1) + "\n")


def _spread(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    values = {name: [getattr(run, name) for run in runs] for name in asdict(runs[0])}
    return {
        name: {"median": statistics.median(found), "min": min(found), "max": max(found)}
        for name, found in values.items()
    }


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(columns), line(rule), *map(line, rows)]
