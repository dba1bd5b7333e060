"""Which agents live: any change of a node's Lease is a sign of life, judged by our own monotonic clock."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from shared.domain.views import LeaseView, NodeView, WorkView


@dataclass(slots=True)
class _Sign:
    at: float
    heartbeat: bool


class Liveness:
    """A node that was never heard of counts from when it was first seen here, so also from our own start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._signs: dict[str, _Sign] = {}

    def lease_changed(self, name: str, old: LeaseView | None, new: LeaseView | None) -> bool:
        """Whether it was a sign of life."""
        if new is None or new == old:
            return False
        self._signs[name] = _Sign(self.clock(), heartbeat=True)
        return True

    def node_changed(self, name: str, old: NodeView | None, new: NodeView | None) -> None:
        if new is None:
            self._signs.pop(name, None)
        elif name not in self._signs:
            self._signs[name] = _Sign(self.clock(), heartbeat=False)
        elif old is not None and old.uid != new.uid:
            self._signs[name] = _Sign(self.clock(), heartbeat=self._signs[name].heartbeat)

    def living(self, *, seconds: float) -> set[str]:
        """Nodes whose agents gave a sign of life so recently."""
        now = self.clock()
        return {n for n, sign in self._signs.items() if sign.heartbeat and now - sign.at < seconds}

    def silent(
        self, nodes: Iterable[str], works: Mapping[str, WorkView], *, seconds: float
    ) -> set[str]:
        """Nodes without a sign for so long. KServe's agent keeps no Lease: as long as it reports, it is believed."""
        now = self.clock()
        found = set()
        for name in nodes:
            sign = self._signs.get(name)
            if sign is None or now - sign.at < seconds:
                continue
            work = works.get(name)
            if not sign.heartbeat and work and work.reports and work.observed is None:
                continue
            found.add(name)
        return found
