"""Rules, as a Prometheus without the operator reads them, and dashboard."""

from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster import REPOSITORY

RULES = REPOSITORY / "deploy/monitoring/rules.yaml"
DASHBOARD = REPOSITORY / "deploy/monitoring/dashboards/localmodel.json"


def spec() -> dict[str, Any]:
    """`spec` of the PrometheusRule."""
    found: dict[str, Any] = yaml.safe_load(RULES.read_text())["spec"]
    return found


def alerts() -> dict[str, dict[str, Any]]:
    """By name."""
    return {rule["alert"]: rule for group in spec()["groups"] for rule in group["rules"] if "alert" in rule}  # fmt: skip


def plain(folder: Path) -> Path:
    """As a file of rules."""
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(spec()))
    return path
