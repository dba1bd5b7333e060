"""Writes the docs' API reference from the models: `python -m shared.ops.api_page [--check] [FILE]`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.api.cache import FORCE_DELETE_ANNOTATION, RETRY_ANNOTATION
from shared.api.crd import KINDS, Kind, Schema, crds
from shared.api.meta import GROUP, VALIDATIONS, VERSION
from shared.ops import generated

_HEADER = f"""\
<!-- Generated from shared/api by `python -m shared.ops.api_page`. -->
# API reference

Group `{GROUP}`, version `{VERSION}`. `kubectl explain` shows the same texts. The API server checks every rule and limit that
stands here, and refuses an object with a message that names the field.

A field without a default may be left out unless it is marked *required*. Where the type is *quantity* both `10Gi` and a whole
number of bytes are taken.

Annotations of caches: `{RETRY_ANNOTATION}`, of which any new value tries failed copies again at once, and
`{FORCE_DELETE_ANNOTATION}`, with which, when it is `true`, a cache in use may be deleted.
"""
_LIMITS = (
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "not fewer than {}"),
    ("maxItems", "not more than {}"),
    ("minimum", "at least {}"),
    ("maximum", "at most {}"),
)
# Not worth a word.
_TRIVIAL = {("minLength", 1)}
# Core's own types, which Kubernetes documents; the schema describes their common fields for `kubectl explain`.
_CORE = {
    "persistentVolumeSpec": "PersistentVolumeSpec (core/v1)",
    "persistentVolumeClaimSpec": "PersistentVolumeClaimSpec (core/v1)",
}


def page() -> str:
    """The whole page as Markdown."""
    schemas = {crd["spec"]["names"]["plural"]: crd["spec"] for crd in crds().values()}
    described: dict[str, Schema] = {}
    return "\n".join([_HEADER, *(_kind(kind, schemas[kind.plural], described) for kind in KINDS)])


def _kind(kind: Kind, spec: Schema, described: dict[str, Schema]) -> str:
    """`described`: specs and statuses that have their tables already; this one's are added."""
    name = kind.model.__name__
    schema = spec["versions"][0]["schema"]["openAPIV3Schema"]
    scope = "one namespace" if kind.namespaced else "the whole cluster"
    columns = ", ".join(
        f"{column.name} (with `-o wide`)" if column.wide else column.name for column in kind.columns
    )
    parts = [
        f"## {name}\n\n{schema['description']}\n",
        f"Scope: {scope}. Short name: `{kind.short}`. `kubectl get` shows {columns}.\n",
    ]
    for part in ("spec", "status"):
        title, fields = f"{name} {part}", schema["properties"][part]
        parts.append(f"### {title}\n")
        same = next((other for other, theirs in described.items() if theirs == fields), None)
        if same:
            parts.append(f"As [{same}](#{same.lower().replace(' ', '-')}).\n")
            continue
        described[title] = fields
        rows = [_row(*found) for found in _fields(fields, part)]
        parts += ["| field | type | |", "|---|---|---|", *rows, ""]
    return "\n".join(parts)


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, str, Schema, bool]]:
    """Path, name, schema and whether it is required, of all fields below `path`, depth first."""
    for name, child in schema.get("properties", {}).items():
        inner = f"{path}.{name}"
        yield inner, name, child, name in schema.get("required", ())
        if name not in _CORE:
            several = child.get("items")
            yield from _fields(several or child, f"{inner}[]" if several else inner)


def _row(path: str, name: str, schema: Schema, required: bool) -> str:
    kind = _CORE.get(name) or _type(schema)
    text = [schema.get("description", "").replace("*", "\\*")]
    values = schema.get("enum") or (schema.get("additionalProperties") or {}).get("enum")
    if values:
        text.append(f"One of {', '.join(map(_value, values))}.")
    text += filter(None, (_limits(schema, ""), _limits(schema.get("items", {}), "each ")))
    if "default" in schema:
        text.append(f"Default: {_value(schema['default'])}.")
    for rule in [*schema.get(VALIDATIONS, ()), *schema.get("items", {}).get(VALIDATIONS, ())]:
        text.append(f"Checked: *{rule['message']}*.")
    cells = (f"`{path}`", f"{kind}, *required*" if required else kind, " ".join(filter(None, text)))
    return "| {} |".format(" | ".join(cell.replace("|", "\\|") for cell in cells))


def _limits(schema: Schema, whose: str) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return ""
    limits = [
        words.format(schema[key])
        for key, words in _LIMITS
        if key in schema and (key, schema[key]) not in _TRIVIAL
    ]
    return f"{whose}{', '.join(limits)}.".capitalize() if limits else ""


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "items" in schema:
        return f"list of {_type(schema['items'])}"
    extra: Any = schema.get("additionalProperties")
    if isinstance(extra, dict):
        return f"map of {_type(extra)}"
    if schema.get("format") == "date-time":
        return "time"
    return str(schema.get("type", "any"))


def _value(value: object) -> str:
    return '`""`' if value == "" else f"`{value}`"


if __name__ == "__main__":
    sys.exit(generated.main("shared.ops.api_page", __doc__, Path("docs/api.md"), page()))
