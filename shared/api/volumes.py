"""Schemas of the volume specs in a node group: common fields described, every other field of the core type kept."""

from typing import Final

from pydantic.config import JsonDict, JsonValue

from shared.api.meta import VALIDATIONS

_KEPT: Final = "x-kubernetes-preserve-unknown-fields"


def _of(type: str, description: str, **more: JsonValue) -> JsonDict:
    return {"type": type, "description": description, **more}


def _open(description: str, **properties: JsonValue) -> JsonDict:
    """An object of which only some fields are described here."""
    described: JsonDict = {"properties": properties} if properties else {}
    return {**_of("object", description), **described, _KEPT: True}


_MODES = _of(
    "array", "How the volume may be mounted, for example ReadOnlyMany.", items={"type": "string"}
)
_CLASS = _of("string", "Storage class; volume and claim must name the same one.")
_FILESYSTEM = _of("string", "Filesystem, the default, or Block.")

# A selector that is not understood would match no node, and a group without nodes looks like one that waits for them.
# So this part is closed, and checked as the scheduler reads it. The bounds keep the rules' cost within the API
# server's budget.
_REQUIREMENT: JsonDict = {
    "type": "object",
    "properties": {
        "key": _of("string", "Label, or metadata.name in matchFields.", minLength=1, maxLength=317),
        "operator": _of(
            "string",
            "In, NotIn, Exists, DoesNotExist, Gt or Lt.",
            enum=["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"],
        ),
        "values": _of(
            "array",
            "At least one for In and NotIn, none for Exists and DoesNotExist, one integer for Gt and Lt.",
            items={"type": "string", "maxLength": 253},
            maxItems=256,
        ),
    },
    "required": ["key", "operator"],
    VALIDATIONS: [
        {
            "rule": "self.operator in ['Exists', 'DoesNotExist'] ? !has(self.values) || self.values.size() == 0 "
            ": has(self.values) && self.values.size() > 0",
            "message": "values must be given for In, NotIn, Gt and Lt, and only for them",
        },
        {
            "rule": "!(self.operator in ['Gt', 'Lt']) || has(self.values) && self.values.size() == 1 "
            "&& self.values[0].matches('^[+-]?[0-9]+$')",
            "message": "values of Gt and Lt must be one integer",
        },
    ],
}
_TERM: JsonDict = {
    "type": "object",
    "properties": {
        "matchExpressions": _of(
            "array",
            "Requirements on the node's labels; all must hold.",
            items=_REQUIREMENT,
            maxItems=32,
        ),
        "matchFields": _of(
            "array",
            "Requirements on the node's fields, of which metadata.name is the only one; all must hold.",
            items=_REQUIREMENT,
            maxItems=32,
        ),
    },
}
_AFFINITY = _of(
    "object",
    "Which nodes belong to the group.",
    properties={
        "required": _of(
            "object",
            "A node selector; without it no node belongs to the group.",
            properties={
                "nodeSelectorTerms": _of(
                    "array",
                    "Terms are ORed: a node belongs to the group when one of them matches. An empty term matches nothing.",
                    items=_TERM,
                    minItems=1,
                    maxItems=64,
                )
            },
            required=["nodeSelectorTerms"],
        )
    },
)

VOLUME: Final[JsonDict] = {
    "accessModes": _MODES,
    "storageClassName": _CLASS,
    "volumeMode": _FILESYSTEM,
    "capacity": _open("Size of the volume, as storage: 1Ti."),
    "persistentVolumeReclaimPolicy": _of("string", "Retain, Delete or Recycle."),
    "local": _open(
        "A folder of the node; it must be the one that the agents serve.",
        path=_of("string", "The folder, for example /models."),
    ),
    "hostPath": _open(
        "A folder of the node; it must be the one that the agents serve.",
        path=_of("string", "The folder, for example /models."),
        type=_of("string", "What must be there, for example DirectoryOrCreate."),
    ),
    "nodeAffinity": _AFFINITY,
}
CLAIM: Final[JsonDict] = {
    "accessModes": _MODES,
    "storageClassName": _CLASS,
    "volumeMode": _FILESYSTEM,
    "resources": _open("How much space is asked for, as requests: {storage: 1Ti}."),
}
