"""Names that controller, agent and KServe's own parts must compute identically."""

import hashlib
import re

_STORAGE_KEY = re.compile(r"[0-9a-f]{16}")


def storage_key(source_model_uri: str) -> str:
    """Folder of a model below `models/`: the first 16 hex digits of the URI's SHA-256, as KServe computes it."""
    return hashlib.sha256(source_model_uri.encode()).hexdigest()[:16]


def is_storage_key(name: str) -> bool:
    """Whether a folder's name can be a storage key; nothing else under `models/` is ever touched."""
    return _STORAGE_KEY.fullmatch(name) is not None


def status_key(name: str, namespace: str | None) -> str:
    """Key of a copy in `LocalModelNode.status`: `name`, or `namespace/name` for a namespace cache."""
    return f"{namespace}/{name}" if namespace else name
