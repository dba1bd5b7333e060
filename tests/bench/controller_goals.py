"""What the controller may cost, judged by the figures of one run. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

# The size for which seconds, cores and memory were set, and the writes of a fleet that fills: on a larger one that takes minutes, in
# which people want to see how it gets on. All other writes are bounded at every size.
_SET_FOR: Final = (100, 1000)


@dataclass(frozen=True)
class Figures:
    """Of one size. writes: of the controller, by verb and resource, in the step of that name."""

    caches: int
    nodes: int
    placed_seconds: float
    restart_seconds: float
    writes: Mapping[str, Mapping[str, int]]
    statuses_per_cache: float
    """A cache in 5 s, while everything downloads."""
    cores: float
    peak_mib: int

    def total(self, step: str) -> int:
        return sum(self.writes[step].values())


@dataclass(frozen=True)
class Goal:
    """most: the bound; at_size: whether it was set for one size alone."""

    what: str
    figure: Callable[[Figures], float]
    most: Callable[[Figures], float]
    at_size: bool = False

    def line(self, found: Figures) -> str:
        figure, most = self.figure(found), self.most(found)
        if self.at_size and (found.caches, found.nodes) != _SET_FOR:
            return f"----  {self.what}: {figure:g} (set for {_SET_FOR[0]} x {_SET_FOR[1]})"
        return (
            f"{'PASS' if figure <= most else 'MISS'}  {self.what}: {figure:g} of at most {most:g}"
        )


GOALS: Final = (
    Goal("seconds until all lists are complete", lambda f: f.placed_seconds, lambda f: 20, True),
    Goal(
        "writes until lists and statuses are complete",
        lambda f: f.total("all"),
        lambda f: 1.2 * (f.nodes + 2 * f.caches),
        True,
    ),
    Goal("writes in a minute at rest", lambda f: f.total("rest"), lambda f: 0),
    Goal(
        "writes for one new cache", lambda f: f.total("new cache"), lambda f: f.nodes + 1 + 3
    ),
    Goal("writes for one new node", lambda f: f.total("new node"), lambda f: 2 + f.caches + 1),
    Goal(
        "work lists written when another node flaps",
        lambda f: sum(n for what, n in f.writes["flap"].items() if "localmodelnodes" in what),
        lambda f: 0,
    ),
    Goal(
        "statuses of a cache in 5 s of downloads", lambda f: f.statuses_per_cache, lambda f: 1
    ),
    Goal("cores during downloads", lambda f: f.cores, lambda f: 0.5, True),
    Goal("MiB of memory", lambda f: f.peak_mib, lambda f: 300, True),
    Goal("seconds from a restart to ready", lambda f: f.restart_seconds, lambda f: 10, True),
    Goal("writes after a restart", lambda f: f.total("restart"), lambda f: 0),
)  # fmt: skip


def needed_mib(caches: int, nodes: int) -> int:
    """Memory for API server, etcd, controller and fleet together: 12 KiB for each copy, of which the API server has most."""
    return 2048 + caches * nodes * 12 // 1024
