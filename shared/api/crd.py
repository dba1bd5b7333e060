"""CustomResourceDefinitions, generated from the models: structural schemas with CEL rules and printer columns."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from shared.api.cache import LocalModelCache, LocalModelNamespaceCache
from shared.api.group import LocalModelNodeGroup
from shared.api.meta import GROUP, VALIDATIONS, VERSION
from shared.api.node import LocalModelNode
from shared.domain.quantity import MAX_LENGTH

Schema = dict[str, Any]

# Lets a controller recognise CRDs that another installation put over ours.
MANAGED_BY: Final = ("app.kubernetes.io/part-of", "localmodel")
_KEPT: Final = (
    "type", "format", "enum", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum",
)  # fmt: skip
# Whole objects and null are how pydantic says "absent"; the API server must not fill them in.
_DEFAULTS: Final = (str, int, list)
_CONDITION_LIST: Final = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; `wide` ones show with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False

    def to_wire(self) -> Schema:
        wire: Schema = {"name": self.name, "type": self.type, "jsonPath": self.path}
        return wire | {"priority": 1} if self.wide else wire


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind and how the API serves it."""

    model: type[BaseModel]
    plural: str
    short: str
    namespaced: bool
    columns: tuple[Column, ...]


def _condition(type: str, field: str) -> str:
    return f".status.conditions[?(@.type=='{type}')].{field}"


_AGE: Final = Column("Age", ".metadata.creationTimestamp", "date")
_CACHE_COLUMNS: Final = (
    Column("Ready", _condition("Ready", "status")),
    Column("Copies", ".status.copies.summary"),
    Column("Failed", ".status.copies.failed", "integer"),
    Column("Progress", ".status.progress.summary"),
    Column("Size", ".spec.modelSize"),
    _AGE,
    Column("Source", ".spec.sourceModelUri", wide=True),
    Column("Reason", _condition("Ready", "reason"), wide=True),
)
KINDS: Final = (
    Kind(LocalModelCache, "localmodelcaches", "lmc", False, _CACHE_COLUMNS),
    Kind(LocalModelNamespaceCache, "localmodelnamespacecaches", "lmnc", True, _CACHE_COLUMNS),
    Kind(
        LocalModelNodeGroup,
        "localmodelnodegroups",
        "lmng",
        False,
        (
            Column("Ready", _condition("Ready", "status")),
            Column("Limit", ".spec.storageLimit"),
            Column("Used", ".status.used"),
            Column("Available", ".status.available"),
            Column("Nodes", ".status.nodes.total", "integer"),
            Column("Caches", ".status.caches", "integer"),
            _AGE,
            Column("Reason", _condition("Ready", "reason"), wide=True),
        ),
    ),
    Kind(
        LocalModelNode,
        "localmodelnodes",
        "lmn",
        False,
        (
            Column("Storage", _condition("StorageReady", "status")),
            Column("Models", ".status.summary.models"),
            Column("Failed", ".status.summary.failed", "integer"),
            Column("Rate", ".status.summary.rate"),
            Column("Used", ".status.summary.used"),
            Column("Free", ".status.summary.free"),
            _AGE,
            Column("Agent", ".status.agent.version", wide=True),
            Column("Reason", _condition("StorageReady", "reason"), wide=True),
        ),
    ),
)


def crds() -> dict[str, Schema]:
    """Every CRD as JSON-ready data, by file name."""
    return {f"{GROUP}_{kind.plural}.yaml": _crd(kind) for kind in KINDS}


def _crd(kind: Kind) -> Schema:
    name = kind.model.__name__
    # "serialization" has the computed fields too: what is written is what the schema must know.
    root = kind.model.model_json_schema(by_alias=True, mode="serialization")
    whole = _structural(root, root.get("$defs", {}))
    properties = whole["properties"]
    schema: Schema = {
        "type": "object",
        "description": (kind.model.__doc__ or "").strip(),
        "properties": {
            "apiVersion": {
                "type": "string",
                "description": f"Version of the API: {GROUP}/{VERSION}.",
            },
            "kind": {"type": "string", "description": f"Always {name}."},
            "metadata": {"type": "object"},
            "spec": properties["spec"],
            "status": _never_observed(properties["status"])
            if kind.model is not LocalModelNode  # KServe's agent writes no generation there
            else properties["status"],
        },
    }
    if "spec" in whole.get("required", ()):
        schema["required"] = ["spec"]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {MANAGED_BY[0]: MANAGED_BY[1]},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": [kind.short],
                "categories": ["localmodel"],
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [column.to_wire() for column in kind.columns],
                }
            ],
        },
    }


def _never_observed(status: Schema) -> Schema:
    """kstatus takes an object without a status for finished; a generation that no object has says that nobody looked yet."""
    return {**status, "default": {"observedGeneration": -1}}


def _structural(node: Schema, definitions: Schema) -> Schema:
    """JSON schema as pydantic writes it → a structural schema as the API server takes it."""
    node = _resolved(node, definitions)
    out: Schema = {key: node[key] for key in _KEPT if key in node}
    if isinstance(node.get("default"), _DEFAULTS):
        out["default"] = node["default"]
    if node.get("description"):
        out["description"] = node["description"]
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    if len(options) == 1:
        out = _structural(options[0], definitions) | out
    elif options:
        out |= {"x-kubernetes-int-or-string": True, "maxLength": MAX_LENGTH}
    if "properties" in node:
        out["properties"] = {
            name: _structural(child, definitions) for name, child in node["properties"].items()
        }
        required = [
            name
            for name in node.get("required", ())
            if not node["properties"][name].get("readOnly")
        ]
        if required:
            out["required"] = sorted(required)
    extra = node.get("additionalProperties")
    if isinstance(extra, dict) and extra:
        out["additionalProperties"] = _structural(extra, definitions)
    elif extra is True:
        out["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in node:
        out["items"] = _structural(node["items"], definitions)
        keyed = {"type", "status", "reason"} <= set(out["items"].get("properties", ()))
        out |= _CONDITION_LIST if keyed else {"x-kubernetes-list-type": "atomic"}
    if "additionalProperties" in out:
        out["x-kubernetes-map-type"] = "atomic"
    for key, value in node.items():
        if key.startswith("x-kubernetes-"):
            out[key] = value
    if VALIDATIONS in node:
        out[VALIDATIONS] = list(node[VALIDATIONS])
    return out


def _resolved(node: Schema, definitions: Schema) -> Schema:
    """The node with its `$ref` (alone or in an `allOf`) replaced; what stands beside the reference wins."""
    reference = node.get("$ref") or next((n["$ref"] for n in node.get("allOf", ())), None)
    if reference is None:
        return node
    target = definitions[reference.rpartition("/")[2]]
    beside = {key: value for key, value in node.items() if key not in {"$ref", "allOf"}}
    return {**_resolved(target, definitions), **beside}
