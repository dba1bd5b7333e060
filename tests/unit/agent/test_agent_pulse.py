"""Long copies are heard of in the log."""

from structlog.testing import capture_logs

from agent.copying.progress import CopyWatch
from agent.node.pulse import Pulse


def test_a_long_copy_says_every_thirty_seconds_how_far_it_is() -> None:
    pulse, watch = Pulse(), CopyWatch(total=4_000_000)
    with capture_logs() as lines:
        for second in range(0, 61, 5):
            watch.progress.received(100_000)
            watch.rate.add(second, watch.moved)
            pulse.beat({"key": watch}, now=second)
    assert [(line["event"], line["key"], line["total"]) for line in lines] == [
        ("copy moving", "key", 4_000_000)
    ] * 2
    assert [line["done"] for line in lines] == [700_000, 1_300_000]
    assert [line["percent"] for line in lines] == [17.5, 32.5]
    assert all(line["files"] == 0 for line in lines)
    assert all(line["mb_per_second"] is not None for line in lines)


def test_short_copies_and_those_that_ended_are_not_spoken_of() -> None:
    pulse, watch = Pulse(), CopyWatch()
    with capture_logs() as lines:
        pulse.beat({"key": watch}, now=0)
        pulse.beat({}, now=20)
        pulse.beat({"key": watch}, now=40)
        pulse.beat({"key": watch}, now=60)
    assert lines == []
