"""`status -o json` and `-o yaml`: the same as data for programs. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controller.cli.pages.copies import Copy, moving_rate
from controller.cli.pages.status import Shown


def as_data(one: Shown) -> dict[str, Any]:
    """Times in RFC 3339, bytes and seconds as numbers; what is not known is left out."""
    cache, (done, total) = one.cache, one.bytes
    told = cache.headline
    return _known(
        {
            "kind": cache.kind,
            "name": cache.view.name,
            "namespace": cache.view.namespace,
            "state": one.state,
            "ready": cache.ready,
            "reason": one.reason or None,
            "message": told.message if told else None,
            "sourceModelUri": cache.view.uri,
            "revision": cache.view.revision,
            "copies": dict(cache.copies),
            "bytesDone": done,
            "bytesTotal": total,
            "bytesPerSecond": moving_rate(one.copies) or None,
            "secondsLeft": _whole(one.seconds_left),
            "nextRetryTime": _time(one.retry_at),
            "services": list(cache.services),
            "nodes": [_copy_data(copy) for copy in one.copies],
        }
    )


def _copy_data(copy: Copy) -> dict[str, Any]:
    return _known(
        {
            "node": copy.node,
            "state": copy.state.value or "Unknown",
            "reason": copy.reason,
            "message": copy.message or None,
            "bytesDone": copy.done,
            "bytesTotal": copy.total,
            "bytesPerSecond": copy.rate,
            "secondsLeft": _whole(copy.seconds_left),
            "verifiedBy": copy.verified_by,
            "revision": copy.revision,
            "attempts": copy.attempts,
            "nextRetryTime": _time(copy.retry_at),
        }
    )


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")
