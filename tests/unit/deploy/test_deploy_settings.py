"""The ConfigMaps in deploy/base document every setting: a line `#name: value` shows the default."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.node.settings import AgentSettings
from controller.settings import ControllerSettings
from shared.ops.settings import Settings, load

BASE = Path(__file__).resolve().parents[3] / "deploy/base"
PROGRAMS = pytest.mark.parametrize(
    ("program", "model"), [("agent", AgentSettings), ("controller", ControllerSettings)]
)
# Given by the manifests' environment, or of no use in a pod.
GIVEN = {
    "node_name",
    "lease_namespace",
    "namespace",
    "root",
    "http_host",
    "http_port",
    "leader_elect",
}


def mounted(program: str) -> str:
    config = yaml.safe_load((BASE / f"{program}-config.yaml").read_text())
    text: str = config["data"][f"{program}.yaml"]
    return text


def documentation(model: type[Settings]) -> str:
    """What the ConfigMap should say."""
    lines: list[str] = []
    defaults = model().model_dump(mode="json")
    for name, field in model.model_fields.items():
        if name in GIVEN:
            continue
        lines += textwrap.wrap(
            field.description or "", 100, initial_indent="# ", subsequent_indent="# "
        )
        lines.append(f"#{name}: {json.dumps(defaults[name])}")
    return "\n".join(lines)


@PROGRAMS
def test_every_setting_is_documented_with_its_default(program: str, model: type[Settings]) -> None:
    missing = [line for line in documentation(model).splitlines() if line not in mounted(program)]
    assert not missing, f"{program}-config.yaml should say:\n{documentation(model)}"


@PROGRAMS
def test_nothing_is_documented_that_does_not_exist(
    program: str, model: type[Settings], tmp_path: Path
) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(re.sub(r"^#(?=\w)", "", mounted(program), flags=re.MULTILINE))
    settings: Any = load(model, file=file, environment={})
    assert settings == model()


@PROGRAMS
def test_the_mounted_settings_are_accepted(
    program: str, model: type[Settings], tmp_path: Path
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(mounted(program))
    load(model, file=file, environment={})
