"""What an overlay gets that takes the component."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.monitoring import rules
from tests.monitoring.overlay import built
from tests.monitoring.rules import DASHBOARD
from tests.support import binaries
from tests.support.cluster import REPOSITORY
from tests.support.controlplane import ControlPlane


@pytest.mark.parametrize("overlay", ["default", "kserve"])
def test_an_overlay_gets_monitors_rules_and_the_dashboard(overlay: str, folder: Path) -> None:
    base = built(folder, overlay)
    found = built(folder, overlay, monitored=True)
    assert base.items() <= found.items()
    new = {name: item for name, item in found.items() if name not in base}
    assert set(new) == {
        ("PodMonitor", "localmodel-agents", "localmodel-agent"),
        ("PodMonitor", "localmodel-system", "localmodel-controller"),
        ("PrometheusRule", "localmodel-system", "localmodel"),
        ("ConfigMap", "localmodel-system", "localmodel-dashboard"),
    }
    assert new["PrometheusRule", "localmodel-system", "localmodel"]["spec"] == rules.spec()
    dashboard = new["ConfigMap", "localmodel-system", "localmodel-dashboard"]
    assert json.loads(dashboard["data"]["localmodel.json"]) == json.loads(DASHBOARD.read_text())
    for (kind, namespace, name), monitor in new.items():
        if kind == "PodMonitor":
            selected = monitor["spec"]["selector"]["matchLabels"]
            workload = next(
                item
                for (of, where, _), item in base.items()
                if of in {"DaemonSet", "Deployment"} and where == namespace
            )
            template = workload["spec"]["template"]
            assert selected.items() <= template["metadata"]["labels"].items()
            ports = {
                port["name"] for c in template["spec"]["containers"] for port in c.get("ports", ())
            }
            assert {e["port"] for e in monitor["spec"]["podMetricsEndpoints"]} <= ports
            # What rules and dashboard ask for as `job`.
            assert selected[monitor["spec"]["jobLabel"]] == name


def test_the_operators_kinds_take_monitors_and_rules(
    control_plane: ControlPlane, folder: Path
) -> None:
    crds = list(binaries.find(["podmonitors.yaml", "prometheusrules.yaml"]).values())
    ours = [
        item
        for (kind, _, _), item in built(folder, "default", monitored=True).items()
        if kind in {"PodMonitor", "PrometheusRule"}
    ]
    kubectl = control_plane.kubectl
    given = [f"--filename={path}" for path in crds]
    kubectl("apply", "--server-side", *given)
    try:
        kubectl("wait", "--for=condition=Established", *given, "--timeout=30s")
        text = yaml.safe_dump_all(ours)
        dry = ("--server-side", "--validate=strict", "--dry-run=server")
        kubectl("apply", *dry, "-f", "-", input=text)
    finally:
        kubectl("delete", *given)


def test_the_chart_makes_links_of_the_runbooks_where_the_docs_are_served() -> None:
    helm = str(binaries.find(["helm"])["helm"])
    given = ("--set=monitoring.enabled=true", "--set=monitoring.docs=https://docs.example.com/")
    done = subprocess.run(
        [helm, "template", "localmodel", "deploy/chart", *given],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (made,) = (item for item in yaml.safe_load_all(done.stdout) if item and item["kind"] == "PrometheusRule")  # fmt: skip
    links = {
        rule["alert"]: rule["annotations"].pop("runbook_url")
        for group in made["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    page = "https://docs.example.com/operating.html#"
    assert links["LocalModelCopyFailing"] == f"{page}a-copy-fails"
    assert links.keys() == rules.alerts().keys()
    assert all(link.startswith(page) for link in links.values())


def test_jobs_that_rules_and_dashboard_ask_for_are_our_programs() -> None:
    text = DASHBOARD.read_text().replace("\\", "") + rules.RULES.read_text()
    for how, job in re.findall(r'job(=~?)"([^"]+)"', text):
        programs = ("localmodel-agent", "localmodel-controller")
        assert any(re.fullmatch(job, program) for program in programs), how + job
