"""JSON that anybody may have written. Pure."""

import json
from typing import Any


def parsed(body: bytes) -> Any:
    """None for what is no JSON, and for what is nested deeper than anything that is meant."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def parsed_object(body: bytes) -> dict[str, Any] | None:
    found = parsed(body)
    return found if isinstance(found, dict) else None
