"""What is installed → what of it would make us fail, and how to mend it. Pure."""

from collections.abc import Mapping
from typing import Any

from shared.domain.reasons import Reason

MEND_CRDS = "kubectl apply --server-side --force-conflicts -k deploy/crds"
# Served by the controller that we replace: without it, every change of a cache is refused.
LEFT_BEHIND = "localmodelcache.serving.kserve.io"

Wire = Mapping[str, Any]


def check_crds(
    ours: Mapping[str, Wire], installed: Mapping[str, Wire]
) -> tuple[Reason, str] | None:
    """By name of the CRD. Fields that we write and that the installed schema lacks: applying them fails."""
    lacking = []
    for name, crd in sorted(ours.items()):
        found = installed.get(name)
        if found is None:
            lacking.append(f"{name} is not installed")
        elif missing := sorted(_fields(_schema(crd)) - _fields(_schema(found))):
            lacking.append(f"{name} lacks {', '.join(missing[:3])}")
    if not lacking:
        return None
    return Reason.CRDS_OUTDATED, f"{'; '.join(lacking)}: run {MEND_CRDS}"


def check_webhook(configuration: Wire | None) -> tuple[Reason, str] | None:
    if configuration is None:
        return None
    return (
        Reason.WEBHOOK_LEFT_BEHIND,
        f"ValidatingWebhookConfiguration {LEFT_BEHIND} is served by the controller that this one replaces, and refuses every "
        f"change of a cache when that is gone: run kubectl delete validatingwebhookconfiguration {LEFT_BEHIND}",
    )


def _schema(crd: Wire) -> Wire:
    """Of the first version; {} when there is none."""
    versions = crd.get("spec", {}).get("versions") or [{}]
    found: Wire = versions[0].get("schema", {}).get("openAPIV3Schema", {})
    return found


def _fields(schema: Wire, path: str = "") -> set[str]:
    """Paths of the properties of spec and status; what is open takes anything, so nothing below it counts."""
    found: set[str] = set()
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return found
    for name, child in schema.get("properties", {}).items():
        if not path and name not in ("spec", "status"):
            continue
        inner = f"{path}.{name}" if path else name
        found |= {inner} | _fields(child, inner)
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            found |= _fields(schema[part], path)
    return found
