"""What Argo CD is told of a cache's health, by the Lua of the documentation and from statuses as the controller writes them."""

from typing import Any

import pytest
import yaml
from lupa import LuaRuntime

from tests.docs.blocks import blocks

(BLOCK,) = (block for block in blocks() if block.kind == 'yaml title="argocd-cm.yaml"')


def conditions(true: str) -> list[dict[str, str]]:
    return [
        {"type": name, "status": str(name == true), "reason": "X", "message": f"{name} says so"}
        for name in ("Ready", "Reconciling", "Stalled")
    ]


@pytest.mark.parametrize("kind", ["LocalModelCache", "LocalModelNamespaceCache"])
@pytest.mark.parametrize(
    ("status", "health"),
    [
        (None, ("Progressing", "not looked at yet")),
        ({"observedGeneration": 1, "conditions": conditions("Ready")}, ("Progressing", "not looked at yet")),
        ({"observedGeneration": 2, "conditions": conditions("Ready")}, ("Healthy", "Ready says so")),
        ({"observedGeneration": 2, "conditions": conditions("Reconciling")}, ("Progressing", "Ready says so")),
        ({"observedGeneration": 2, "conditions": conditions("Stalled")}, ("Degraded", "Ready says so")),
    ],
)  # fmt: skip
def test_argo_cd_tells_caches_that_are_ready_stalled_and_on_their_way(
    kind: str, status: dict[str, Any] | None, health: tuple[str, str]
) -> None:
    lua: Any = LuaRuntime(unpack_returned_tuples=True)
    cache = {"metadata": {"generation": 2}, **({"status": status} if status else {})}
    lua.globals().obj = lua.table_from(cache, recursive=True)
    script = yaml.safe_load(BLOCK.text)["data"][
        f"resource.customizations.health.serving.kserve.io_{kind}"
    ]
    told = lua.execute(script)
    assert (told.status, told.message) == health
