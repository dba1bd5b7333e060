import pytest

from controller import routes
from controller.actions import RemoveFinalizer
from shared.api.cache import NAMESPACE_FINALIZER
from tests.unit.controller.builders import Cluster, cache, group, node, report

URI = "s3://models/m"


@pytest.fixture
def cluster() -> Cluster:
    """Cache m, held by the nodes a and b."""
    made = Cluster()
    made.put("group", group())
    made.put("node", node("a"))
    made.put("node", node("b"))
    made.put("cache", cache("m"))
    made.settle()
    made.answer("a")
    made.answer("b")
    made.settle()
    return made


def gone(cluster: Cluster, key: str = "m") -> bool:
    return ("cache", key) not in cluster.stored


def test_a_cache_goes_when_every_node_confirmed(cluster: Cluster) -> None:
    cluster.remove("cache", "m")
    cluster.settle()
    assert cluster.entries("a") == []
    assert cluster.condition("m") == ("False", "Deleting")
    assert "waiting for a, b" in cluster.message("m")["message"]
    cluster.report("a")
    cluster.settle()
    assert list(cluster.status("m")["nodeStatus"]) == ["b"]
    cluster.report("b", report("m", URI, reason="Evicting"))
    cluster.settle()
    assert not gone(cluster)
    cluster.report("b")
    cluster.settle()
    assert gone(cluster)
    assert cluster.announced[-1].reason == "Deleted"


def test_an_answer_to_the_list_that_still_had_the_copy_confirms_nothing(cluster: Cluster) -> None:
    cluster.put("cache", cache("n"))
    cluster.settle()
    cluster.remove("cache", "n")
    cluster.settle()
    cluster.report("a")
    cluster.report("b", report("m", URI), observedGeneration=2)
    cluster.settle()
    assert not gone(cluster, "n")
    cluster.report("b", report("m", URI))
    cluster.settle()
    assert gone(cluster, "n")


def test_a_node_that_never_reported_has_nothing_to_confirm() -> None:
    cluster = Cluster()
    cluster.put("group", group())
    cluster.put("node", node("a"))
    cluster.put("cache", cache("n", namespace="team"))
    cluster.settle()
    assert cluster.stored["cache", "team/n"]["metadata"]["finalizers"] == [NAMESPACE_FINALIZER]
    cluster.remove("cache", "team/n")
    cluster.settle()
    assert gone(cluster, "team/n")


def test_nodes_that_left_the_cluster_do_not_block(cluster: Cluster) -> None:
    cluster.remove("cache", "m")
    cluster.settle()
    cluster.report("a")
    cluster.settle()
    assert not gone(cluster)
    cluster.remove("node", "b")
    cluster.settle()
    assert gone(cluster)
    assert cluster.announced[-1].message == (
        "no node of the cluster holds a copy any more; left before they answered: b"
    )
    assert cluster.world.departed == {}


def test_a_node_that_left_before_the_deletion_began_is_no_part_of_it(cluster: Cluster) -> None:
    cluster.remove("node", "b")
    cluster.settle()
    cluster.remove("cache", "m")
    cluster.settle()
    cluster.report("a")
    cluster.settle()
    assert cluster.announced[-1].message == "no node of the cluster holds a copy any more"


def test_a_silent_agent_blocks_until_it_is_given_up_and_that_is_told(cluster: Cluster) -> None:
    cluster.remove("cache", "m")
    cluster.settle()
    cluster.report("a")
    cluster.silence("b")
    cluster.settle()
    assert not gone(cluster)
    cluster.silence("b", abandoned=True)
    cluster.settle()
    assert gone(cluster)
    assert cluster.announced[-1].type == "Warning"
    assert "without an answer from b" in cluster.announced[-1].message
    (last,) = [write for write in cluster.writes if isinstance(write, RemoveFinalizer)]
    assert [left.name for left in last.unconfirmed] == ["b"]
    assert cluster.entries("b") == []  # so the copy goes when the agent returns


def test_a_node_that_no_group_wants_is_asked_once_for_what_it_holds() -> None:
    cluster = Cluster()
    cluster.put("node", node("a", pool="nobodys"))
    cluster.settle()
    world = cluster.world
    assert world.to_ask({"a", "gone"}) == {"a"}
    cluster._add(routes.strays_due(world, {"a"}))
    cluster.settle()
    assert cluster.entries("a") == []
    cluster.report("a", report("m", URI, reason="Evicting"))
    cluster.settle()
    assert "a" in world.works
    cluster.report("a")
    cluster.settle()
    assert "a" not in world.works
    assert world.to_ask({"a"}) == set()
    cluster.remove("node", "a")
    cluster.put("node", node("a", pool="nobodys"))
    assert world.to_ask({"a"}) == {"a"}


def test_bytes_that_another_cache_shares_are_not_waited_for(cluster: Cluster) -> None:
    cluster.put("cache", cache("same", uri=URI, created=1))
    cluster.settle()
    cluster.answer("a")
    cluster.answer("b")
    cluster.settle()
    cluster.remove("cache", "m")
    cluster.settle()
    assert gone(cluster)
    assert cluster.entries("a") == ["same"]


@pytest.mark.parametrize("first", ["group", "node", "work"])
def test_the_order_of_deletions_does_not_matter(cluster: Cluster, first: str) -> None:
    cluster.remove(first, {"group": "gpu", "node": "a", "work": "a"}[first])
    cluster.remove("cache", "m")
    cluster.settle()
    for name in ("a", "b"):
        if ("work", name) in cluster.stored:
            cluster.report(name)
    cluster.settle()
    assert gone(cluster)


def test_a_deletion_that_began_while_no_controller_ran_is_finished(cluster: Cluster) -> None:
    cluster.dirty.caches.clear()
    cluster.remove("cache", "m")
    cluster.restart()
    cluster.settle()
    assert not gone(cluster)
    cluster.report("a")
    cluster.report("b")
    cluster.restart()
    cluster.settle()
    assert gone(cluster)


@pytest.mark.parametrize("answer", ["status", "no list any more"])
def test_a_deletion_that_waits_for_an_agent_behind_goes_on_with_its_answer(
    cluster: Cluster, answer: str
) -> None:
    """It never reported the copy, so a new controller knows only that it has yet to answer."""
    cluster.put("node", node("c"))
    cluster.settle()
    cluster.report("c")
    cluster.remove("cache", "m")
    cluster.settle()
    cluster.report("a")
    cluster.report("b")
    cluster.settle()
    cluster.restart()
    cluster.settle()
    assert "waiting for c" in cluster.message("m")["message"]
    if answer == "status":
        cluster.report("c")
    else:
        cluster.remove("work", "c")
    cluster.settle()
    assert gone(cluster)


def test_a_cache_whose_spec_is_broken_goes_too(cluster: Cluster) -> None:
    cluster.put("cache", cache("m", size="much"))
    cluster.settle()
    assert cluster.entries("a") == ["m"]
    cluster.remove("cache", "m")
    cluster.settle()
    assert cluster.entries("a") == []
    cluster.report("a")
    cluster.report("b")
    cluster.settle()
    assert gone(cluster)


def test_a_missing_group_never_blocks_deletion(cluster: Cluster) -> None:
    cluster.put("cache", cache("lost", "typo"))
    cluster.settle()
    cluster.remove("cache", "lost")
    cluster.settle()
    assert gone(cluster, "lost")
