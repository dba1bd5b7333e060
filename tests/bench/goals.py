"""What was set as goals, each judged by the rows that are there. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.bench.clients import OURS
from tests.bench.content import MIB
from tests.bench.loads import DISK, NULL, Load, Start
from tests.bench.report import Result

# A part for each connection that a near server is given.
_IN_FLIGHT = 4 * 64 * MIB
# Less is listings and answers without content.
_NOTHING = MIB


@dataclass(frozen=True)
class Row:
    """met: whether one load keeps to a goal. shown: its figure."""

    load: str
    met: bool
    shown: str


@dataclass(frozen=True)
class Verdict:
    goal: str
    rows: tuple[Row, ...]

    @property
    def met(self) -> bool | None:
        """None when nothing was measured that could tell."""
        return all(row.met for row in self.rows) if self.rows else None

    def line(self) -> str:
        word = {True: "PASS", False: "MISS", None: "----"}[self.met]
        figures = ", ".join(
            f"{row.load} {row.shown}{'' if row.met else ' (!)'}" for row in self.rows
        )
        return f"{word}  {self.goal}: {figures or 'not measured'}"


Results = Mapping[str, Result]


def judge(results: list[Result]) -> list[Verdict]:
    """In the order in which the goals were set."""
    by_name = {result.load.name: result for result in results}
    return [Verdict(goal, tuple(rows(by_name))) for goal, rows in _GOALS.items()]


def _rows(
    applies: Callable[[Load], bool], figure: Callable[[Result], float | None], least: float
) -> Callable[[Results], Iterator[Row]]:
    """At least so much, for every load to which the goal applies."""

    def rows(results: Results) -> Iterator[Row]:
        for name, result in results.items():
            value = figure(result) if applies(result.load) and result.ours else None
            if value is not None:
                yield Row(name, value >= least, f"{value:.2f}")

    return rows


def _at_most(
    applies: Callable[[Load], bool], figure: Callable[[Result], float], most: float
) -> Callable[[Results], Iterator[Row]]:
    def rows(results: Results) -> Iterator[Row]:
        for name, result in results.items():
            if applies(result.load) and result.ours:
                value = figure(result)
                yield Row(name, value <= most, f"{value:.2f}" if most < 10 else f"{value:.0f}")

    return rows


def _times(peer: str) -> Callable[[Result], float | None]:
    """How many times as long a peer takes."""

    def figure(result: Result) -> float | None:
        if result.ours is None or peer not in result.runs:
            return None
        return result.median(peer, "wall") / result.median(result.ours, "wall")

    return figure


def _best_peer(result: Result) -> float | None:
    times = [_times(name)(result) for name in result.runs if name not in {*OURS, DISK, NULL}]
    return min((time for time in times if time is not None), default=None)


def _of_disk(result: Result) -> float | None:
    if result.ours is None or DISK not in result.runs:
        return None
    rate = result.size / result.median(result.ours, "wall")
    return rate * result.median(DISK, "wall") / result.disk_bytes


def _cpu(result: Result) -> float:
    return result.median(result.ours or "", "cpu") / result.size * 1e9


def _peak(result: Result) -> float:
    return max(run.peak for name in OURS for run in result.runs.get(name, ())) / MIB


def _far(results: Results) -> Iterator[Row]:
    """Of what the server can send over the same link to who throws it away."""
    for name, far in results.items():
        near = results.get(name.removesuffix("-far"))
        if far.load.far and far.load.large and near is not None:
            ours, theirs = _times(NULL)(far), _times(NULL)(near)
            if ours is not None and theirs is not None:
                yield Row(name, ours >= theirs, f"{ours:.2f} of the link, near {theirs:.2f}")


def _resumed(results: Results) -> Iterator[Row]:
    for name, result in results.items():
        if result.load.start is Start.HALF:
            for client in OURS:
                if client in result.runs:
                    moved = result.median(client, "moved")
                    met = moved <= result.size / 2 + _IN_FLIGHT
                    yield Row(
                        name, met, f"{client} {moved / 1e6:.0f} of {result.size / 1e6:.0f} MB"
                    )


def _again(results: Results) -> Iterator[Row]:
    for name, result in results.items():
        if result.load.start is Start.COMPLETE:
            for client in OURS:
                if client in result.runs:
                    moved = result.median(client, "moved")
                    yield Row(name, moved < _NOTHING, f"{client} {moved / 1e6:.1f} MB")


def _plain(load: Load) -> bool:
    return load.start is Start.NOTHING and not load.tls


def _large(load: Load) -> bool:
    return _plain(load) and load.large and not load.far


def _tls(load: Load) -> bool:
    return load.start is Start.NOTHING and load.tls


def _crcs(load: Load) -> bool:
    return _plain(load) and load.large and not load.sha256


_GOALS: Mapping[str, Callable[[Results], Iterator[Row]]] = {
    "0.9 of the disk's limit on large objects": _rows(_large, _of_disk, 0.9),
    "as fast as rclone over plain HTTP": _rows(_plain, _times("rclone"), 1),
    "1.5 times as fast as s5cmd over plain HTTP": _rows(_plain, _times("s5cmd"), 1.5),
    "as fast as rclone over TLS": _rows(_tls, _times("rclone"), 1),
    "as fast as s5cmd over TLS": _rows(_tls, _times("s5cmd"), 1),
    "3 times as fast as KServe's downloader": _rows(lambda load: True, _times("KServe"), 3),
    "1.2 CPU s/GB where CRCs suffice": _at_most(_crcs, _cpu, 1.2),
    "1.9 CPU s/GB where the digest is SHA-256": _at_most(
        lambda load: _plain(load) and load.sha256, _cpu, 1.9
    ),
    "256 MiB of memory at most, for any model": _at_most(lambda load: True, _peak, 256),
    "small files 1.5 times as fast as the best peer": _rows(
        lambda load: load.start is Start.NOTHING and not load.large, _best_peer, 1.5
    ),
    "a link of 40 ms filled as well as loopback": _far,
    "resuming moves what is missing and a part per connection": _resumed,
    "what is there is not moved again": _again,
}
