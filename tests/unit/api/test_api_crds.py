"""The generated CRDs: as committed, structural, bounded, and every word of them explained."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.api.cache import NodeState
from shared.api.crd import crds
from shared.api.node import ModelState
from shared.ops.crds import files, main

FOLDER = Path(__file__).parents[3] / "deploy" / "crds"
CRDS = {crd["spec"]["names"]["kind"]: crd for crd in crds().values()}
KINDS = sorted(CRDS)
CACHES = ["LocalModelCache", "LocalModelNamespaceCache"]


def version(kind: str) -> dict[str, Any]:
    (only,) = CRDS[kind]["spec"]["versions"]
    found: dict[str, Any] = only
    return found


def schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = version(kind)["schema"]["openAPIV3Schema"]
    return found


def nodes(kind: str, part: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema below `spec` or `status`, with its path."""
    waiting = [(part, schema(kind)["properties"][part])]
    while waiting:
        path, node = waiting.pop()
        yield path, node
        waiting += [(f"{path}.{name}", child) for name, child in node.get("properties", {}).items()]
        for inner, mark in (("items", "[]"), ("additionalProperties", "{}")):
            if inner in node:
                waiting.append((path + mark, node[inner]))


def at(kind: str, path: str) -> dict[str, Any]:
    return dict(nodes(kind, path.split(".")[0]))[path]


EVERYWHERE = [(kind, part) for kind in KINDS for part in ("spec", "status")]


def test_what_is_committed_is_what_the_models_generate() -> None:
    generated = files()
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("serving.*")}
    assert committed == generated


def test_the_check_names_the_file_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["crds", str(tmp_path)])
    assert main() == 0
    monkeypatch.setattr("sys.argv", ["crds", "--check", str(tmp_path)])
    assert main() == 0
    changed = tmp_path / "serving.kserve.io_localmodelnodes.yaml"
    changed.write_text("kind: Other\n")
    assert main() == 1
    assert str(changed) in capsys.readouterr().err
    assert changed.read_text() == "kind: Other\n"


@pytest.mark.parametrize(
    ("kind", "plural", "scope", "short"),
    [
        ("LocalModelCache", "localmodelcaches", "Cluster", "lmc"),
        ("LocalModelNamespaceCache", "localmodelnamespacecaches", "Namespaced", "lmnc"),
        ("LocalModelNode", "localmodelnodes", "Cluster", "lmn"),
        ("LocalModelNodeGroup", "localmodelnodegroups", "Cluster", "lmng"),
    ],
)
def test_the_kinds_have_kserves_names(kind: str, plural: str, scope: str, short: str) -> None:
    crd = CRDS[kind]
    assert crd["metadata"]["name"] == f"{plural}.serving.kserve.io"
    assert crd["spec"]["group"] == "serving.kserve.io"
    assert crd["spec"]["scope"] == scope
    assert crd["spec"]["names"]["shortNames"] == [short]
    assert crd["spec"]["names"]["categories"] == ["localmodel"]
    assert version(kind)["name"] == "v1alpha1"
    assert version(kind)["subresources"] == {"status": {}}


@pytest.mark.parametrize(("kind", "part"), EVERYWHERE)
def test_every_property_is_explained(kind: str, part: str) -> None:
    for path, node in nodes(kind, part):
        for name, child in node.get("properties", {}).items():
            text = child.get("description", "")
            assert len(text.split()) > 1, f"{kind}.{path}.{name} has no description"
            assert text.endswith("."), f"{kind}.{path}.{name}: {text}"


@pytest.mark.parametrize(("kind", "part"), EVERYWHERE)
def test_schemas_are_structural_and_every_list_and_map_says_how_it_merges(
    kind: str, part: str
) -> None:
    for path, node in nodes(kind, part):
        typed = "type" in node or node.get("x-kubernetes-int-or-string")
        assert typed, f"{kind}.{path} has no type"
        assert not {"$ref", "allOf", "oneOf", "anyOf", "title", "const"} & node.keys(), path
        if node.get("type") == "array":
            keys = node.get("x-kubernetes-list-map-keys")
            if path.endswith(".conditions"):
                assert (node["x-kubernetes-list-type"], keys) == ("map", ["type"])
            else:
                assert (node["x-kubernetes-list-type"], keys) == ("atomic", None), path
        if "additionalProperties" in node:
            assert node["x-kubernetes-map-type"] == "atomic", path


@pytest.mark.parametrize("kind", KINDS)
def test_what_cel_looks_at_is_bounded(kind: str) -> None:
    """Without bounds the API server refuses a CRD, because its rules might cost too much."""
    for path, node in nodes(kind, "spec"):
        if "x-kubernetes-validations" not in node:
            continue
        assert node.get("maxLength") or node.get("type") == "object", path
        while "[]" in path:
            path = path.rpartition("[]")[0]
            assert at(kind, path).get("maxItems"), path


@pytest.mark.parametrize("kind", CACHES)
def test_bounds_of_a_cache(kind: str) -> None:
    assert at(kind, "spec.sourceModelUri")["maxLength"] == 2048
    groups = at(kind, "spec.nodeGroups")
    assert (groups["minItems"], groups["maxItems"]) == (1, 64)
    for field in ("allowPatterns", "ignorePatterns"):
        assert at(kind, f"spec.{field}")["maxItems"] == 64
        assert at(kind, f"spec.{field}[]")["maxLength"] == 256


@pytest.mark.parametrize(
    ("kind", "path", "names"),
    [
        ("LocalModelCache", "spec", ["modelSize", "nodeGroups", "sourceModelUri"]),
        ("LocalModelNamespaceCache", "spec", ["modelSize", "nodeGroups", "sourceModelUri"]),
        (
            "LocalModelNodeGroup",
            "spec",
            ["persistentVolumeClaimSpec", "persistentVolumeSpec", "storageLimit"],
        ),
        ("LocalModelNode", "spec", ["localModels"]),
        ("LocalModelNode", "spec.localModels[]", ["modelName", "sourceModelUri"]),
        ("LocalModelCache", "status", []),
        ("LocalModelCache", "status.copies", []),
        ("LocalModelNode", "status", []),
        ("LocalModelNodeGroup", "status", []),
    ],
)
def test_only_kserves_own_fields_are_required(kind: str, path: str, names: list[str]) -> None:
    assert at(kind, path).get("required", []) == names


@pytest.mark.parametrize(
    ("kind", "path", "states"),
    [
        ("LocalModelCache", "status.nodeStatus{}", list(NodeState)),
        ("LocalModelNamespaceCache", "status.nodeStatus{}", list(NodeState)),
        ("LocalModelNode", "status.modelStatus{}", list(ModelState)),
        ("LocalModelNode", "status.models[].state", list(ModelState)),
    ],
)
def test_states_are_enumerated_and_may_be_empty(kind: str, path: str, states: list[str]) -> None:
    assert at(kind, path)["enum"] == states
    assert "" in states


@pytest.mark.parametrize("field", ["persistentVolumeSpec", "persistentVolumeClaimSpec"])
def test_volume_specs_keep_fields_that_are_not_described(field: str) -> None:
    assert at("LocalModelNodeGroup", f"spec.{field}")["x-kubernetes-preserve-unknown-fields"]


@pytest.mark.parametrize("kind", KINDS)
def test_columns_show_fields_that_exist(kind: str) -> None:
    for column in version(kind)["additionalPrinterColumns"]:
        path = re.sub(r"\[\?.*?\]", "[]", column["jsonPath"]).lstrip(".")
        if path == "metadata.creationTimestamp":
            continue
        shown = at(kind, path)
        assert column["type"] == shown.get("type", "string"), column


def test_columns_of_a_cache() -> None:
    columns = version("LocalModelCache")["additionalPrinterColumns"]
    assert [c["name"] for c in columns if "priority" not in c] == [
        "Ready", "Copies", "Failed", "Progress", "Size", "Age",
    ]  # fmt: skip
    assert [c["name"] for c in columns if c.get("priority")] == ["Source", "Reason"]
