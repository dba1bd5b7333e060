from dataclasses import dataclass

import pytest

from agent.transfer.pace import TICK_SECONDS, Pace, Restraint


@dataclass
class Network:
    """A link that lets each connection have `each` bytes a second, and all together `total`."""

    pace: Pace
    each: float
    total: float
    latency: float | None = 0.0001
    copies: int = 1
    work: int = 1000
    now: float = 0.0
    moved: float = 0.0

    def run(self, seconds: float) -> list[int]:
        """Widths of each moment."""
        widths = []
        for _ in range(int(seconds / TICK_SECONDS)):
            widths.append(self.look())
            self.now += TICK_SECONDS
            self.moved += TICK_SECONDS * min(self.total, self.each * min(widths[-1], self.work))
        return widths

    def look(self) -> int:
        return self.pace.look(
            now=self.now,
            moved=int(self.moved),
            wanted=self.work,
            copies=self.copies,
            latency=self.latency,
        )


@pytest.mark.parametrize(("latency", "width"), [(None, 4), (0.0005, 4), (0.0201, 24), (0.3, 64)])
def test_a_far_source_is_asked_over_more_connections_at_once(
    latency: float | None, width: int
) -> None:
    assert Network(Pace(most=64), each=1e6, total=4e6, latency=latency).look() == width


def test_a_disk_that_a_few_connections_fill_gets_no_more_for_long() -> None:
    widths = Network(Pace(most=64), each=1e9, total=1e9).run(120)
    assert max(widths) == 8
    assert widths.count(8) / len(widths) < 0.1


@pytest.mark.parametrize(("total", "enough"), [(20e6, 20), (60e6, 60), (1e9, 64)])
def test_connections_are_added_until_more_bring_nothing(total: float, enough: int) -> None:
    network = Network(Pace(most=64), each=1e6, total=total, latency=0.04)
    network.run(10)
    widths = network.run(60)
    rates = [min(total, width * 1e6) for width in widths]
    assert sum(rates) / len(rates) >= 0.8 * min(total, 64e6)
    assert min(widths) <= max(2 * enough, 44)


def test_the_budget_is_never_exceeded_and_may_change() -> None:
    network = Network(Pace(most=10), each=1e6, total=1e9, latency=0.04)
    assert max(network.run(30)) == 10
    network.pace.limit(3)
    assert network.look() == 3
    network.pace.limit(40)
    assert max(network.run(30)) == 40


def test_a_source_that_asks_to_slow_down_is_asked_over_fewer_for_a_while() -> None:
    restraint = Restraint(most=64)
    assert restraint.width(now=0) >= 64
    restraint.slow_down(now=0, share=44)
    assert restraint.width(now=0) == 22
    for _ in range(10):
        restraint.slow_down(now=1, share=44)
    assert restraint.width(now=1) == restraint.width(now=15) == 1
    assert restraint.width(now=18) == 4
    assert restraint.width(now=31) > 64
    restraint.slow_down(now=31, share=8)
    assert restraint.width(now=31) == 4


def test_several_copies_have_their_share_each() -> None:
    assert Network(Pace(most=64), each=1e6, total=1e6, copies=8).look() == 32
    assert Network(Pace(most=16), each=1e6, total=1e6, copies=8).look() == 16


def test_nothing_is_tried_while_there_is_no_work_for_more() -> None:
    assert max(Network(Pace(most=64), each=1e6, total=1e9, work=4).run(60)) == 4
