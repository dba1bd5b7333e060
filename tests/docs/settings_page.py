"""Writes the docs' page of settings: `python -m tests.docs.settings_page [--check] [FILE]`.

It stands here because no package of the programs may know both of them.
"""

import json
import sys
from pathlib import Path

from agent.node.settings import AgentSettings
from controller.settings import ControllerSettings
from shared.ops import generated
from shared.ops.settings import ENV_PREFIX, Settings

# What a running agent takes up from its file.
LIVE = ("log_level", "connections", "memory_mib", "max_bytes_per_second")
_LIVE_NAMES = ", ".join(f"`{name}`" for name in LIVE[:-1]) + f" and `{LIVE[-1]}`"

_HEADER = f"""\
<!-- Generated from the settings' models by `python -m tests.docs.settings_page`. -->
# Settings

Each program reads a YAML file that its ConfigMap mounts; `{ENV_PREFIX}<NAME>` in its environment goes before the file. An unknown
name or a value that does not fit ends the program with a message that names it. `run --log-level LEVEL` goes before both.

A running agent takes up changes of {_LIVE_NAMES} in its file, a running controller those of
`log_level`: about a minute after the ConfigMap was changed, when the kubelet has brought it. A file with a mistake in it changes nothing, and the
log says so. All other settings count from the next start:

```sh
kubectl -n localmodel-agents rollout restart daemonset localmodel-agent
kubectl -n localmodel-system rollout restart deployment localmodel-controller
```
"""
_PROGRAMS: tuple[tuple[str, str, type[Settings]], ...] = (
    ("Agent", "ConfigMap `localmodel-agent` in `localmodel-agents`, key `agent.yaml`", AgentSettings),
    (
        "Controller",
        "ConfigMap `localmodel-controller` in `localmodel-system`, key `controller.yaml`",
        ControllerSettings,
    ),
)  # fmt: skip
# What depends on the machine where the page is written.
_FOUND = {"node_name": "the node's name"}


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEADER, *(_program(*program) for program in _PROGRAMS)])


def _program(title: str, where: str, model: type[Settings]) -> str:
    defaults = model().model_dump(mode="json")
    lines = [f"## {title}\n", f"{where}.\n", "| setting | default | meaning |", "|---|---|---|"]
    for name, field in sorted(model.model_fields.items()):
        default = _FOUND.get(name) or f"`{json.dumps(defaults[name])}`"
        lines.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(generated.main("tests.docs.settings_page", __doc__, Path("docs/settings.md"), page()))
