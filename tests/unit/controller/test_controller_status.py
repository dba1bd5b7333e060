import pytest

from controller.planning.copies import assess
from shared.domain.reasons import Reason
from tests.unit.controller.builders import GIB, Cluster, cache, group, node, report

URI = "s3://models/m"


@pytest.fixture
def cluster() -> Cluster:
    """Cache m, placed on the ready nodes a and b."""
    made = Cluster()
    made.put("group", group())
    made.put("node", node("a"))
    made.put("node", node("b"))
    made.put("cache", cache("m"))
    made.settle()
    return made


def test_a_placed_cache_is_reconciling_then_ready(cluster: Cluster) -> None:
    status = cluster.status("m")
    assert status["nodeStatus"] == {"a": "NodeDownloadPending", "b": "NodeDownloadPending"}
    assert cluster.condition("m") == ("False", "Progressing")
    assert cluster.condition("m", "Reconciling") == ("True", "Progressing")
    cluster.report("a", report("m", URI, "ModelDownloading", bytesTotal=4 * GIB, bytesDone=1 * GIB))
    cluster.report("b", report("m", URI, bytesTotal=4 * GIB, bytesDone=4 * GIB))
    cluster.settle()
    status = cluster.status("m")
    assert status["nodeStatus"] == {"a": "NodeDownloading", "b": "NodeDownloaded"}
    assert status["copies"] == {
        "available": 1,
        "total": 2,
        "failed": 0,
        "downloading": 1,
        "pending": 0,
        "summary": "1/2",
    }
    assert status["progress"] == {
        "bytesDone": 5 * GIB,
        "bytesTotal": 8 * GIB,
        "percent": 62,
        "summary": "62%",
    }
    cluster.answer("a")
    cluster.settle()
    assert cluster.condition("m") == ("True", "Available")
    assert cluster.condition("m", "Reconciling")[0] == "False"
    assert [
        (told.type, told.reason.value) for told in cluster.announced if "copies" in told.message
    ] == [
        ("Normal", "Progressing"),
        ("Normal", "Available"),
    ]


def test_a_copy_that_no_agent_has_taken_up_yet_is_pending(cluster: Cluster) -> None:
    found = {copy.node: copy.verdict for copy in assess(cluster.world, cluster.world.caches["m"])}
    assert {node: verdict.reason for node, verdict in found.items()} == dict.fromkeys(
        ("a", "b"), Reason.PENDING
    )


def test_one_stalled_node_speaks_for_the_cache_but_it_is_stalled_only_when_nothing_moves(
    cluster: Cluster,
) -> None:
    failed = report("m", URI, "ModelDownloadError", reason="AccessDenied", message="403 from s3")
    cluster.report("a", failed)
    cluster.report("b", report("m", URI, "ModelDownloading"))
    cluster.settle()
    assert cluster.condition("m") == ("False", "AccessDenied")
    assert cluster.message("m")["message"] == "0 of 2 copies available; a: 403 from s3"
    assert cluster.condition("m", "Stalled")[0] == "False"
    cluster.answer("b")
    cluster.settle()
    assert cluster.condition("m", "Stalled") == ("True", "AccessDenied")
    assert cluster.condition("m", "Reconciling")[0] == "False"


def test_a_failure_that_is_retried_does_not_stall_the_cache(cluster: Cluster) -> None:
    failed = report("m", URI, "ModelDownloadError", reason="SourceUnreachable", message="timeout")
    cluster.report("a", failed)
    cluster.answer("b")
    cluster.settle()
    assert cluster.condition("m") == ("False", "SourceUnreachable")
    assert cluster.condition("m", "Reconciling")[0] == "True"
    assert cluster.status("m")["copies"]["failed"] == 1


def test_a_silent_agents_copy_is_unknown_and_not_available(cluster: Cluster) -> None:
    cluster.answer("a")
    cluster.answer("b")
    cluster.settle()
    cluster.silence("b")
    cluster.settle()
    assert cluster.status("m")["nodeStatus"] == {"a": "NodeDownloaded", "b": ""}
    assert cluster.status("m")["copies"]["available"] == 1
    assert cluster.condition("m") == ("False", "AgentSilent")
    cluster.silence()
    cluster.settle()
    assert cluster.condition("m") == ("True", "Available")


def test_a_node_without_agent_says_so(cluster: Cluster) -> None:
    cluster.answer("a")
    cluster.silence("b")
    cluster.settle()
    assert cluster.condition("m") == ("False", "AgentMissing")
    assert cluster.status("m")["nodeStatus"]["b"] == ""


def test_a_node_that_is_not_ready_counts_in_total_but_not_as_available(cluster: Cluster) -> None:
    cluster.answer("a")
    cluster.put("node", node("a", ready=False))
    cluster.put("node", node("b", ready=False))
    cluster.settle()
    status = cluster.status("m")
    assert status["nodeStatus"] == {"a": "NodeDownloaded", "b": "NodeNotReady"}
    assert (status["copies"]["available"], status["copies"]["total"]) == (0, 2)
    assert cluster.condition("m") == ("False", "NodeNotReady")


def test_no_nodes_and_missing_groups_are_named(cluster: Cluster) -> None:
    cluster.put("cache", cache("none", "empty"))
    cluster.put("group", group("empty"))
    cluster.put("cache", cache("lost", "gpu", "typo"))
    cluster.settle()
    assert cluster.condition("none") == ("False", "NoNodes")
    assert cluster.condition("none", "Reconciling")[0] == "True"
    assert cluster.condition("lost") == ("False", "NodeGroupNotFound")
    assert "node group typo does not exist" in cluster.message("lost")["message"]
    assert any(told.type == "Warning" and "typo" in told.message for told in cluster.announced)


def test_an_answer_to_an_older_work_list_proves_nothing_about_a_changed_line(
    cluster: Cluster,
) -> None:
    cluster.answer("a")
    cluster.answer("b")
    cluster.settle()
    cluster.put("cache", cache("m", allowPatterns=["*.bin"]))
    cluster.settle()
    assert cluster.condition("m") == ("False", "Progressing")
    cluster.answer("a")
    cluster.answer("b")
    cluster.settle()
    assert cluster.condition("m") == ("True", "Available")


def test_another_caches_arrival_does_not_make_ready_copies_doubtful(cluster: Cluster) -> None:
    for name in ("a", "b"):
        cluster.report(name, report("m", URI, revision="r1"))
    cluster.settle()
    cluster.put("cache", cache("n"))
    cluster.settle()
    line = cluster.stored["work", "a"]["spec"]["localModels"][0]
    assert line["revision"] == "r1"  # named for the first time, and what the node has
    assert cluster.condition("m") == ("True", "Available")


def test_a_report_of_another_folder_is_not_this_caches_copy(cluster: Cluster) -> None:
    cluster.report("a", report("m", "s3://other/uri"))
    cluster.settle()
    assert cluster.status("m")["nodeStatus"]["a"] == "NodeDownloadPending"


def test_kserves_agent_is_believed_by_its_model_status_alone(cluster: Cluster) -> None:
    for name in ("a", "b"):
        cluster._status("work", name, {"modelStatus": {"m": "ModelDownloaded"}})
    cluster.settle()
    assert cluster.condition("m") == ("True", "Available")


def test_a_group_waits_for_answers_of_our_agents_and_not_for_kserves_which_says_nothing_of_them(
    cluster: Cluster,
) -> None:
    for name in ("a", "b"):
        assert cluster.world.awaits_answers("gpu")
        cluster._status("work", name, {"modelStatus": {"m": "ModelDownloaded"}})
    assert not cluster.world.awaits_answers("gpu")
    cluster.report("a", observedGeneration=0)
    assert cluster.world.awaits_answers("gpu")
    cluster.report("a")
    assert not cluster.world.awaits_answers("gpu")


def test_different_revisions_are_shown_and_cost_no_readiness(cluster: Cluster) -> None:
    cluster.report("a", report("m", URI, revision="r1"))
    cluster.settle()
    cluster.report("b", report("m", URI, revision="r2"))
    cluster.settle()
    assert cluster.entries("b") == ["m"]
    cluster.report("b", report("m", URI, revision="r2"))
    cluster.settle()
    assert cluster.condition("m") == ("True", "RevisionSkew")
    assert "b found another revision than r1" in cluster.message("m")["message"]


def test_transition_times_move_only_with_the_status(cluster: Cluster) -> None:
    before = cluster.message("m")["lastTransitionTime"]
    cluster.put("cache", cache("m", size="2Gi"))
    cluster.settle()
    after = cluster.message("m")
    assert after["lastTransitionTime"] == before
    assert after["observedGeneration"] == 2
    assert cluster.status("m")["observedGeneration"] == 2


def test_garbage_in_a_status_is_survived(cluster: Cluster) -> None:
    garbage = {
        "observedGeneration": "x",
        "models": [{"key": 7}, {"key": "m", "state": "?", "bytesTotal": "many"}],
        "storage": [],
        "modelStatus": None,
        "agent": "x",
    }
    cluster._status("work", "a", garbage)
    cluster.settle()
    assert cluster.status("m")["nodeStatus"]["a"] == "NodeDownloadPending"


def test_every_status_says_exactly_one_of_ready_reconciling_stalled(cluster: Cluster) -> None:
    conditions = cluster.status("m")["conditions"]
    assert [c["type"] for c in conditions] == ["Ready", "Reconciling", "Stalled"]
    assert [c["status"] for c in conditions].count("True") == 1


def test_a_status_that_was_just_written_is_no_reason_to_write_the_next_one_soon(
    cluster: Cluster,
) -> None:
    cluster.report("a", report("m", URI, "ModelDownloading", bytesTotal=4 * GIB, bytesDone=1))
    cluster.settle()
    cluster._status("cache", "m", {**cluster.status("m"), "revision": None})
    assert (cluster.dirty.caches, cluster.dirty.progress) == (set(), {"m"})
