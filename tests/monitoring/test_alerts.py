"""Every alert fires when it should and only then, says what is the matter, and has a runbook."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.blocks import blocks
from tests.monitoring import rules
from tests.monitoring.cases import CASES, Case
from tests.support import binaries
from tests.support.cluster import REPOSITORY

_SECONDS = 30
ALERTS = rules.alerts()


def promtool(*arguments: str | Path) -> None:
    """AssertionError with what it says."""
    command: Sequence[str | Path] = [binaries.find(["promtool"])["promtool"], *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_as_promtool_wants_them(folder: Path) -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", rules.plain(folder))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.fires}")
def test_it_fires_when_it_should_and_only_then(case: Case, folder: Path) -> None:
    rule = ALERTS[case.alert]
    firing = {
        "exp_labels": {**rule["labels"], **case.labels},
        "exp_annotations": {
            "summary": case.summary,
            "description": case.description,
            "runbook_url": rule["annotations"]["runbook_url"],
        },
    }
    checks: list[dict[str, Any]] = [
        {"eval_time": f"{minute}m", "alertname": case.alert, "exp_alerts": []}
        for minute in case.quiet
    ]
    checks.append({"eval_time": f"{case.fires}m", "alertname": case.alert, "exp_alerts": [firing]})
    given = [{"series": name, "values": values} for name, values in case.series.items()]
    text = {
        "rule_files": [str(rules.plain(folder))],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": given, "alert_rule_test": checks}],
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(text))
    promtool("test", "rules", folder / "test.yaml")


def test_every_alert_is_tried_and_has_a_runbook_and_a_line_in_the_docs() -> None:
    assert ALERTS.keys() == {case.alert for case in CASES}
    page = (REPOSITORY / "docs/monitoring.md").read_text()
    listed = dict(re.findall(r"^\| `(LocalModel\w+)` \|.*\]\(([^)]+)\) \|$", page, re.MULTILINE))
    operating = (REPOSITORY / "docs/operating.md").read_text()
    headings = {
        re.sub(r"[^a-z ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^## (.+)$", operating, re.MULTILINE)
    }
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        runbook = rule["annotations"]["runbook_url"]
        assert runbook.partition("#")[2] in headings, runbook
        assert f"docs/{listed.pop(name)}" == runbook
    assert not listed, "alerts that there are not"


def test_the_docs_way_to_a_plain_file_of_rules(folder: Path) -> None:
    """As somebody without the operator makes it; and their scrape configuration reads it."""
    mine = [block for block in blocks() if block.page == "docs/monitoring.md"]
    (command,) = [block.text for block in mine if "rules.yaml >" in block.text]
    (scraping,) = [block.text for block in mine if 'title="prometheus.yaml"' in block.kind]
    (folder / "deploy").symlink_to(REPOSITORY / "deploy")
    subprocess.run(["bash", "-euc", command], cwd=folder, check=True, timeout=_SECONDS)
    assert yaml.safe_load((folder / "localmodel.rules.yaml").read_text()) == rules.spec()
    (folder / "prometheus.yaml").write_text(scraping)
    promtool("check", "config", folder / "prometheus.yaml")
