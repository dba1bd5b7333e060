"""Whether a copy fits on the disk beside everything that is in flight."""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.domain.quantity import human_bytes

_NAMED_HOLDERS = 3


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes. kept_free: never to be used by models; in_flight: what other copies have still to write, by key."""

    capacity: int
    free: int
    kept_free: int
    in_flight: Mapping[str, int]

    @property
    def usable(self) -> int:
        """What a new copy may take; negative when copies in flight are already promised more than there is."""
        return self.free - self.kept_free - sum(self.in_flight.values())

    def has(self, need: int) -> bool:
        """Whether `need` more bytes fit."""
        return need <= max(self.usable, 0)


def kept_free(capacity: int, percent: float) -> int:
    """Bytes of the disk that models leave alone."""
    return int(capacity * percent / 100)


def refusal(need: int, space: Space, *, holders: Mapping[str, int]) -> str:
    """Why `need` more bytes do not fit, in a sentence. `holders`: bytes by name of what is there."""
    return (
        f"needs {human_bytes(need)}, {human_bytes(max(space.usable, 0))} can be used; "
        + shortage(space, holders=holders)
    )


def shortage(space: Space, *, holders: Mapping[str, int]) -> str:
    """Where the disk's bytes are. `holders`: as above."""
    parts = [
        f"{human_bytes(space.free)} of {human_bytes(space.capacity)} are free, {human_bytes(space.kept_free)} stay free"
    ]
    promised = sum(space.in_flight.values())
    if promised:
        parts.append(f"{human_bytes(promised)} are promised to copies in flight")
    largest = sorted(holders.items(), key=lambda item: (-item[1], item[0]))
    if largest:
        named = ", ".join(f"{name} {human_bytes(size)}" for name, size in largest[:_NAMED_HOLDERS])
        others = len(largest) - _NAMED_HOLDERS
        parts.append(f"held by {named}" + (f" and {others} more" if others > 0 else ""))
    return "; ".join(parts)
