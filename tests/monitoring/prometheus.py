"""A real Prometheus that scrapes what it is told, twice a second."""

import contextlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support import binaries
from tests.support.processes import LOOPBACK, Process, free_port

_SECONDS = 10


class Prometheus:
    """`with Prometheus(folder, targets, rules=…) as prometheus:`; targets: labels and port of each."""

    def __init__(
        self, folder: Path, targets: Iterable[tuple[Mapping[str, str], int]], *, rules: Path
    ) -> None:
        self.url = f"http://{LOOPBACK}:{free_port()}"
        every = [
            {"targets": [f"{LOOPBACK}:{port}"], "labels": dict(labels)} for labels, port in targets
        ]
        self._targets = len(every)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "prometheus.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "500ms", "evaluation_interval": "1s"},
                    "scrape_configs": [{"job_name": "programs", "static_configs": every}],
                    "rule_files": [str(rules)],
                }
            )
        )
        self._process = Process(
            "prometheus",
            [
                str(binaries.find(["prometheus"])["prometheus"]),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
                # Else targets are looked at every 5 s only, the first time too.
                "--scrape.discovery-reload-interval=100ms",
            ],
            log=folder / "prometheus.log",
        )

    def __enter__(self) -> "Prometheus":
        self._process.start()
        try:
            self._process.wait_ready(self._scrapes, seconds=30)
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def _scrapes(self) -> bool:
        """Whether every target has been scraped."""
        # Until it listens, and until it is ready, it answers no question.
        with contextlib.suppress(OSError, AssertionError):
            return self.value("count(up == 1)") == self._targets
        return False

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an answer of its API; AssertionError with what it says of a wrong query."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 — loopback
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def value(self, query: str) -> float | None:
        """Of a query with one result, now; None without any."""
        found = self.get("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def samples(self, query: str, *, start: float, end: float) -> list[tuple[dict[str, str], list[float]]]:  # fmt: skip
        """Labels and values of each series between two Unix times, once a second."""
        found = self.get("query_range", query=query, start=f"{start}", end=f"{end}", step="1")
        return [
            (series["metric"], [float(value) for _, value in series["values"]])
            for series in found["result"]
        ]
