"""A line in the log now and then for each copy that takes long, so that the log alone is enough to follow it."""

from collections.abc import Mapping
from typing import Final

import structlog

from agent.copying.progress import CopyWatch

# Two lines a minute and copy: enough to see it move, few enough to keep for a day.
_SECONDS: Final = 30.0

log = structlog.get_logger(__name__)


class Pulse:
    """Knows when each copy was spoken of last; forgets those that no longer move."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def beat(self, moving: Mapping[str, CopyWatch], *, now: float) -> None:
        """Called often. moving: copies that run, by storage key; now: monotonic seconds."""
        self._said = {key: self._said.get(key, now) for key in moving}
        for key, watch in moving.items():
            if now - self._said[key] >= _SECONDS:
                self._said[key] = now
                _say(key, watch)


def _say(key: str, watch: CopyWatch) -> None:
    rate = watch.rate.per_second()
    log.info(
        "copy moving",
        key=key,
        phase=watch.phase.value,
        done=watch.done,
        total=watch.total,
        percent=round(100 * watch.done / watch.total, 1) if watch.total else None,
        mb_per_second=None if rate is None else round(rate / 1e6, 1),
        files=watch.progress.snapshot().files_done,
    )
