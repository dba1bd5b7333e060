"""What the benchmark says of its goals."""

from tests.bench.clients import RUNNING, US
from tests.bench.content import MIB
from tests.bench.goals import judge
from tests.bench.loads import DISK, LOADS
from tests.bench.measure import Run
from tests.bench.report import Result

GB = 10**9
NAMES = {load.name: load for load in LOADS}


def result(name: str, **walls: float) -> Result:
    """Of a model of 4 GB on a disk that takes a second for each."""
    found = Result(NAMES[name], 4 * GB, 4 * GB)
    found.add(DISK, Run(4, 0, 0, 0))
    found.add(RUNNING, Run(4, 4, 1, 60 * MIB))
    for client, wall in walls.items():
        found.add(client, Run(wall, 9, 1, 900 * MIB))
    return found


def lines(*results: Result) -> dict[str, str]:
    return {verdict.goal: verdict.line() for verdict in judge(list(results))}


def test_each_goal_is_judged_by_the_loads_that_it_is_about() -> None:
    found = lines(result("one", rclone=5, s5cmd=5), result("one-tls", rclone=5, s5cmd=3.9))
    assert found["as fast as rclone over plain HTTP"] == (
        "PASS  as fast as rclone over plain HTTP: one 1.25"
    )
    assert found["1.5 times as fast as s5cmd over plain HTTP"].startswith("MISS")
    assert found["as fast as rclone over TLS"].startswith("PASS")
    assert found["as fast as s5cmd over TLS"].endswith("one-tls 0.97 (!)")
    assert found["0.9 of the disk's limit on large objects"].endswith("one 1.00")
    assert found["1.2 CPU s/GB where CRCs suffice"].endswith("one 1.00")


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    found = lines(result("one"))
    assert found["what is there is not moved again"].startswith("----")
    assert found["1.9 CPU s/GB where the digest is SHA-256"].endswith("not measured")
    assert found["3 times as fast as KServe's downloader"].startswith("----")


def test_resuming_is_judged_by_what_the_server_sent() -> None:
    resumed = Result(NAMES["resume"], 4 * GB, 4 * GB)
    resumed.add(US, Run(2, 2, 1, 60 * MIB, moved=int(2.1 * GB)))
    resumed.add(RUNNING, Run(2, 2, 1, 60 * MIB, moved=int(3.9 * GB)))
    line = lines(resumed)["resuming moves what is missing and a part per connection"]
    assert line.startswith("MISS")
    assert "localmodel (running) 3900 of 4000 MB (!)" in line


def test_small_files_are_compared_with_whoever_is_best() -> None:
    goal = "small files 1.5 times as fast as the best peer"
    assert lines(result("small", rclone=9, s5cmd=6.1))[goal].startswith("PASS")
    assert lines(result("small", rclone=9, s5cmd=5.9))[goal].startswith("MISS")


def test_memory_is_that_of_any_of_our_runs() -> None:
    found = result("many")
    found.add(US, Run(4, 4, 1, 300 * MIB))
    assert lines(found)["256 MiB of memory at most, for any model"].startswith("MISS")
