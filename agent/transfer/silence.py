"""When a peer is given up: nothing comes, or hardly anything."""

from typing import Final

# No byte for this long: the peer is dead, another connection goes on from the last byte.
SILENCE_SECONDS: Final = 30.0
# A peer that sends less is as good as silent: 8 MiB would take more than two hours.
LEAST_RATE: Final = 1 << 10


class TooSlow(TimeoutError):
    """Something came now and then, but less than `LEAST_RATE`."""


class Pulse:
    """What a peer sends while somebody listens; times in which nobody does, because of a throttle or a disk, do not count."""

    def __init__(self) -> None:
        self._seconds, self._bytes = 0.0, 0

    def beat(self, count: int, seconds: float) -> bool:
        """False once it was less than `LEAST_RATE` for `SILENCE_SECONDS`."""
        self._seconds += seconds
        self._bytes += count
        if self._seconds <= SILENCE_SECONDS:
            return True
        enough = self._bytes >= self._seconds * LEAST_RATE
        self._seconds, self._bytes = 0.0, 0
        return enough
