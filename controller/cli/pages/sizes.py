"""How large a cache has to be declared, and the manifest that declares it. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from shared.api.meta import API_VERSION
from shared.domain.quantity import format_quantity
from shared.domain.uri import SourceUri

_MIB, _GIB = 1 << 20, 1 << 30
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
# Together with group and namespace it has to fit into the names of volumes.
_LONGEST_NAME = 63


def round_up(count: int) -> int:
    """To whole MiB, from 1 GiB on to 100 MiB, from 10 GiB on to whole GiB: a figure that a person can read."""
    step = _MIB if count < _GIB else 100 * _MIB if count < 10 * _GIB else _GIB
    return max(-(-count // step), 1) * step


def default_name(uri: SourceUri) -> str:
    """From the last part of the URI, without the ending of an archive: what a DNS label may be. ValueError when nothing is left."""
    last = (uri.path.rstrip("/") or uri.authority).rsplit("/", 1)[-1].lower()
    for ending in (".tar.gz", ".tgz", ".tar", ".zip"):
        last = last.removesuffix(ending)
    name = _NOT_IN_NAMES.sub("-", last).strip("-")[:_LONGEST_NAME].strip("-")
    if not name:
        raise ValueError("no name can be made of it")
    return name


def manifest(
    uri: str,
    *,
    name: str,
    size: int,
    groups: tuple[str, ...],
    namespace: str | None = None,
    service_account: str | None = None,
    storage_key: str | None = None,
    allow: tuple[str, ...] = (),
    ignore: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A LocalModelCache, or with a namespace a LocalModelNamespaceCache. size: bytes."""
    optional: Mapping[str, Any] = {
        "serviceAccountName": service_account,
        "storage": {"key": storage_key} if storage_key else None,
        "allowPatterns": list(allow),
        "ignorePatterns": list(ignore),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "LocalModelNamespaceCache" if namespace else "LocalModelCache",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
        "spec": {
            "sourceModelUri": uri,
            "modelSize": format_quantity(size),
            "nodeGroups": list(groups),
            **{field: value for field, value in optional.items() if value},
        },
    }
