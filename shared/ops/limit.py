"""At most so many log lines a second; how many were left out is told."""

import logging
import time
from collections.abc import Callable
from typing import Final

# Far above what both programs say while all goes well; a loop that fails in a hurry would fill a node's disk.
LINES_PER_SECOND: Final = 50
# A pass over a thousand nodes may say one line for each at once.
_BURST: Final = 1000
# Why a program ends it says once, and perhaps because of the flood.
_UNLIMITED: Final = "shared.ops.lifecycle"


class RateLimit(logging.Filter):
    """For a handler. The first line after a gap carries `suppressed`: how many were left out. Errors count too, and pass as
    others do; only what `lifecycle` says always passes.
    """

    def __init__(
        self,
        *,
        per_second: float = LINES_PER_SECOND,
        burst: int = _BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._at = clock()
        self._suppressed = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Called with the handler's lock not yet held; a line too many or too few is no harm."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1 and record.name != _UNLIMITED:
            self._suppressed += 1
            return False
        self._left = max(0.0, self._left - 1)
        if self._suppressed:
            # structlog's lines are dicts in `msg`, others take fields as attributes.
            if isinstance(record.msg, dict):
                record.msg = {**record.msg, "suppressed": self._suppressed}
            else:
                record.suppressed = self._suppressed
            self._suppressed = 0
        return True
