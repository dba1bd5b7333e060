"""Which agents live: any change of a node's Lease is a sign of life, judged by our own monotonic clock.

KServe's agent keeps no Lease and writes only when something changed, so it is believed unless it owes an answer.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from shared.domain.views import LeaseView, NodeView, WorkView


@dataclass(slots=True)
class _Sign:
    """`heartbeat`: there is a Lease; `moved`: it changed since it was first seen, which proves that somebody renews it."""

    at: float
    heartbeat: bool = False
    moved: bool = False


class Liveness:
    """A node that was never heard of counts from when it was first seen here, so also from our own start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._signs: dict[str, _Sign] = {}
        self._owing: dict[str, float] = {}
        """Since when agents without a Lease have owed an answer and said nothing."""
        self._doubted: set[str] = set()

    def lease_changed(self, name: str, old: LeaseView | None, new: LeaseView | None) -> bool:
        """Whether it was a sign of life."""
        if new is None or new == old:
            return False
        moved = old is not None or name in self._doubted
        self._signs[name] = _Sign(self.clock(), heartbeat=True, moved=moved)
        self._doubted.discard(name)
        return True

    def work_changed(self, name: str, old: WorkView | None, new: WorkView | None) -> bool:
        """Whether it was a sign of life of an agent that keeps no Lease."""
        if new is None or not _owes(new):
            self._owing.pop(name, None)
        sign = self._signs.get(name)
        if new is None or new.observed is not None or (sign is not None and sign.heartbeat):
            return False
        spoke = old is not None and old.reports != new.reports
        if spoke:
            self._doubted.discard(name)
        if _owes(new) and (spoke or name not in self._owing):
            self._owing[name] = self.clock()
        return spoke

    def node_changed(self, name: str, old: NodeView | None, new: NodeView | None) -> None:
        if new is None:
            self._signs.pop(name, None)
            self._doubted.discard(name)
        elif name not in self._signs:
            self._signs[name] = _Sign(self.clock())
        elif old is not None and old.uid != new.uid:
            self._signs[name].at = self.clock()

    def doubt(self, names: Iterable[str]) -> None:
        """These were held for silent by whoever led before; a Lease that lies there does not say otherwise, until it moves."""
        self._doubted = {
            name for name in names if (sign := self._signs.get(name)) and not sign.moved
        }

    def living(self, *, seconds: float) -> set[str]:
        """Nodes whose agents gave a sign of life so recently."""
        now = self.clock()
        return {n for n, sign in self._signs.items() if sign.heartbeat and now - sign.at < seconds}

    def silent(
        self, nodes: Iterable[str], works: Mapping[str, WorkView], *, seconds: float
    ) -> set[str]:
        """Nodes without a sign for so long, and those in doubt."""
        nodes = set(nodes)
        doubted = {name for name in self._doubted & nodes if self._since(name, works) is not None}
        return doubted | self.given_up(nodes, works, seconds=seconds)

    def given_up(
        self, nodes: Iterable[str], works: Mapping[str, WorkView], *, seconds: float
    ) -> set[str]:
        """Nodes without a sign for so long, as we have seen ourselves."""
        now = self.clock()
        return {
            name
            for name in nodes
            if (since := self._since(name, works)) is not None and now - since >= seconds
        }

    def _since(self, name: str, works: Mapping[str, WorkView]) -> float | None:
        """When the last sign was; None for an agent that keeps no Lease and owes nothing: it has no reason to give one."""
        sign, work = self._signs.get(name), works.get(name)
        if sign is None:
            return None
        if not sign.heartbeat and work and work.reports and work.observed is None:
            return self._owing.get(name)
        return sign.at


def _owes(work: WorkView) -> bool:
    """Whether the agent reports on other copies than it should hold."""
    return bool(work.reports) and work.reports.keys() != {line.key for line in work.entries}
