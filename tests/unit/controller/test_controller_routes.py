"""What a change makes the controller look at again, and what it leaves alone: a fleet's answers must cost little."""

import pytest

from tests.unit.controller.builders import GIB, Cluster, cache, group, node, report

DISK = {"availableBytes": 90 * GIB, "usedBytes": GIB, "capacityBytes": 100 * GIB}


@pytest.fixture
def cluster() -> Cluster:
    """One node, and a group that allows 10 GiB on it; cache m is on its list."""
    made = Cluster()
    made.put("group", group(limit="10Gi"))
    made.put("node", node("a"))
    made.put("cache", cache("m", size="8Gi"))
    made.settle()
    return made


def test_an_agents_first_answer_brings_no_new_plan_where_nothing_waits(cluster: Cluster) -> None:
    cluster.report(
        "a",
        report("m", "s3://models/m", bytesTotal=8 * GIB),
        storage=DISK,
        agent={"hostPath": "/models"},
    )
    assert cluster.dirty.nodes == set()
    assert cluster.dirty.settling == set()
    assert "m" in cluster.dirty.copies
    assert cluster.dirty.figures == {"gpu"}
    cluster.settle()
    assert cluster.condition("m") == ("True", "Available")


def test_only_a_copy_that_came_may_be_the_last_that_was_missing(cluster: Cluster) -> None:
    cluster.report("a", report("m", "s3://models/m", "ModelDownloading", bytesTotal=8 * GIB))
    assert cluster.dirty.copies == {"m"}
    assert cluster.dirty.landed == set()
    cluster.settle()
    cluster.report("a", report("m", "s3://models/m", bytesTotal=8 * GIB))
    assert cluster.dirty.landed == {"m"}


def test_an_answer_brings_a_new_plan_where_something_waits_for_space(cluster: Cluster) -> None:
    cluster.put("cache", cache("n", size="8Gi", created=1))
    cluster.settle()
    cluster.report("a", report("m", "s3://models/m", bytesTotal=8 * GIB), storage=DISK)
    assert cluster.dirty.nodes == {"a"}


def test_a_copy_that_nobody_wants_counts_on_the_disk(cluster: Cluster) -> None:
    cluster.answer("a")
    cluster.settle()
    stray = report("old", "s3://models/old", "", bytesTotal=GIB)
    cluster.report("a", report("m", "s3://models/m"), stray)
    assert cluster.dirty.nodes == {"a"}
    cluster.settle()
    assert cluster.stored["group", "gpu"]["status"]["used"] == "9Gi"


def test_a_first_answer_with_another_revision_than_all_should_have_is_corrected(
    cluster: Cluster,
) -> None:
    cluster.report("a", report("m", "s3://models/m", revision="r1"))
    cluster.settle()
    cluster.put("node", node("b"))
    cluster.settle()
    cluster.edit("work", "b", lambda _: None)
    cluster.report("b", report("m", "s3://models/m", revision="r2"))
    assert cluster.dirty.nodes == {"b"}
