from dataclasses import replace
from typing import Any

import pytest

from controller import routes
from controller.actions import ApplyCacheStatus, ApplyGroupStatus, ApplyWorkList
from tests.unit.controller.builders import Cluster, cache, group, node, report


@pytest.fixture
def cluster() -> Cluster:
    """Two ready nodes in group gpu."""
    made = Cluster()
    made.put("group", group())
    made.put("node", node("a"))
    made.put("node", node("b"))
    return made


def lines(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    return [dict(line) for line in cluster.stored["work", name]["spec"]["localModels"]]


def test_a_node_gets_what_its_groups_ask_for_with_everything_an_agent_needs(
    cluster: Cluster,
) -> None:
    cluster.put(
        "cache",
        cache("m", serviceAccountName="sa", storage={"key": "k"}, allowPatterns=["*.bin"], size=5),
    )
    cluster.put("cache", cache("n", "gpu", namespace="team"))
    cluster.put("cache", cache("other", "cpu"))
    cluster.settle()
    assert lines(cluster, "a") == [
        {
            "sourceModelUri": "s3://models/m",
            "modelName": "m",
            "nodeGroup": "gpu",
            "serviceAccountName": "sa",
            "storage": {"key": "k"},
            "allowPatterns": ["*.bin"],
            "modelSize": 5,
        },
        {
            "sourceModelUri": "s3://models/n",
            "modelName": "n",
            "namespace": "team",
            "nodeGroup": "gpu",
            "modelSize": "1Gi",
        },
    ]


def test_many_caches_cost_one_write_per_node(cluster: Cluster) -> None:
    for i in range(20):
        cluster.put("cache", cache(f"m{i}"))
    cluster.settle()
    assert sum(isinstance(write, ApplyWorkList) for write in cluster.writes) == 2


def test_nothing_is_written_when_nothing_changed_also_after_a_restart(cluster: Cluster) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.answer("a")
    cluster.answer("b")
    cluster.settle()
    cluster.restart()
    assert cluster.settle() == 0


def test_a_cache_is_placed_only_once_its_deletion_would_wait_for_us(cluster: Cluster) -> None:
    raw = cache("m")
    raw["metadata"]["finalizers"] = []
    cluster.put("cache", raw)
    cluster.settle()
    kinds = [type(write).__name__ for write in cluster.writes]
    assert "AddFinalizer" in kinds
    assert cluster.entries("a") == ["m"]
    assert kinds.index("AddFinalizer") < max(
        i for i, kind in enumerate(kinds) if kind == "ApplyWorkList"
    )


def test_relabelled_nodes_converge_in_both_directions(cluster: Cluster) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.answer("a")
    cluster.put("node", node("a", pool="other"))
    cluster.settle()
    assert cluster.entries("a") == []
    assert list(cluster.status("m")["nodeStatus"]) == ["b"]
    cluster.put("node", node("a"))
    cluster.settle()
    assert cluster.entries("a") == ["m"]


def test_a_superfluous_line_stays_for_its_grace_time_and_still_takes_its_space() -> None:
    cluster = Cluster(grace=True)
    cluster.put("group", group(limit="1Gi"))
    cluster.put("group", group("cpu", limit="1Gi"))
    cluster.put("node", node("a"))
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.put("node", node("a", pool="cpu"))
    cluster.settle()
    assert cluster.entries("a") == ["m"]
    cluster.remove("cache", "m")
    cluster.settle()
    assert cluster.entries("a") == []


def test_a_node_that_no_group_wants_keeps_its_object_until_its_agent_says_it_is_empty(
    cluster: Cluster,
) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.answer("a")
    cluster.put("node", node("a", pool="other"))
    cluster.settle()
    assert cluster.entries("a") == []
    cluster.report("a", observedGeneration=1)
    cluster.settle()
    assert ("work", "a") in cluster.stored
    cluster.report("a")
    cluster.settle()
    assert ("work", "a") not in cluster.stored


def test_a_node_without_agent_that_no_group_wants_loses_its_object_when_that_is_certain(
    cluster: Cluster,
) -> None:
    cluster.settle()
    cluster.put("node", node("a", pool="other"))
    cluster.settle()
    assert ("work", "a") in cluster.stored
    cluster.silence("a")
    cluster.settle()
    assert ("work", "a") not in cluster.stored


def test_a_deleted_node_takes_its_object_and_its_places_in_every_status_along(
    cluster: Cluster,
) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.answer("a")
    cluster.answer("b")
    cluster.remove("node", "a")
    cluster.settle()
    assert ("work", "a") not in cluster.stored
    assert cluster.status("m")["nodeStatus"] == {"b": "NodeDownloaded"}
    assert cluster.stored["group", "gpu"]["status"]["nodes"] == {"total": 1, "ready": 1}


def test_a_work_list_that_was_left_behind_goes_with_the_node_that_is_not_there(
    cluster: Cluster,
) -> None:
    """As KServe's controller leaves it: owned by nobody."""
    spec = {"localModels": [{"modelName": "m", "sourceModelUri": "s3://models/m"}]}
    cluster.put("work", {"metadata": {"name": "gone", "uid": "w"}, "spec": spec})
    cluster.settle()
    assert ("work", "gone") not in cluster.stored


def test_a_node_that_joins_through_any_group_of_a_cache_is_served(cluster: Cluster) -> None:
    cluster.put("group", group("cpu"))
    cluster.put("cache", cache("m", "gpu", "cpu"))
    cluster.settle()
    cluster.put("node", node("c", pool="cpu"))
    cluster.settle()
    assert cluster.entries("c") == ["m"]


def test_a_node_of_the_same_name_that_comes_back_starts_clean(cluster: Cluster) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.answer("a")
    cluster.settle()
    old = cluster.world.works["a"].uid
    cluster.stored.pop(("node", "a"))  # deleted and created again while nobody looked
    cluster.put("node", node("a"))
    cluster.settle()
    assert cluster.world.works["a"].uid != old
    assert cluster.status("m")["nodeStatus"]["a"] == "NodeDownloadPending"


def test_a_work_list_edited_or_deleted_by_hand_is_mended(cluster: Cluster) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    meta = cluster.stored["work", "a"]["metadata"]
    cluster.put("work", {"metadata": meta, "spec": {"localModels": [{"modelName": "x"}]}})
    cluster.settle()
    assert cluster.entries("a") == ["m"]
    cluster.remove("work", "a")
    cluster.settle()
    assert cluster.entries("a") == ["m"]


def test_group_edits_move_caches(cluster: Cluster) -> None:
    cluster.put("node", node("c", pool="new"))
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.put("group", group("gpu", pool="new"))
    cluster.settle()
    assert cluster.entries("c") == ["m"]
    assert cluster.entries("a") == []
    cluster.remove("group", "gpu")
    cluster.settle()
    assert cluster.entries("c") == []
    assert cluster.condition("m") == ("False", "NodeGroupNotFound")
    cluster.put("group", group("gpu"))
    cluster.settle()
    assert cluster.entries("a") == ["m"]


def test_cache_edits_add_remove_and_reorder_groups(cluster: Cluster) -> None:
    cluster.put("group", group("cpu"))
    cluster.put("group", group("all", tier="x"))
    cluster.put("node", node("c", pool="cpu", tier="x"))
    cluster.put("cache", cache("m", "gpu"))
    cluster.settle()
    cluster.put("cache", cache("m", "cpu"))
    cluster.settle()
    assert (cluster.entries("a"), cluster.entries("c")) == ([], ["m"])
    cluster.put("cache", cache("m", "all", "cpu"))
    cluster.settle()
    assert lines(cluster, "c")[0]["nodeGroup"] == "all"


def test_a_broken_group_or_cache_costs_no_copies(cluster: Cluster) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    broken = group()
    broken["spec"]["persistentVolumeSpec"]["nodeAffinity"]["required"] = {"nodeSelectorTerms": 7}
    cluster.put("group", broken)
    cluster.put("cache", cache("m", size="much"))
    cluster.settle()
    assert cluster.entries("a") == ["m"]
    assert cluster.condition("m", "Stalled") == ("True", "InvalidSpec")
    assert cluster.condition("gpu", kind="group") == ("False", "InvalidSpec")


@pytest.mark.parametrize("broken", ["cache", "group"])
def test_what_waited_for_a_spec_to_be_mended_goes_when_it_is_no_longer_asked_for(
    cluster: Cluster, broken: str
) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    if broken == "cache":
        cluster.put("cache", cache("m", size="much"))
        cluster.settle()
        cluster.put("group", group("gpu", pool="new"))
    else:
        cluster.put("group", group("gpu", limit="much"))
    cluster.settle()
    assert cluster.entries("a") == ["m"]
    cluster.put("cache", cache("m"))
    cluster.put("group", group("gpu", pool="new"))
    cluster.settle()
    assert cluster.entries("a") == []


def test_a_line_that_waited_for_its_finalizer_goes_with_an_edit_made_meanwhile(
    cluster: Cluster,
) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.edit("cache", "m", lambda meta: meta.update(finalizers=[]))
    cluster.put("group", group("gpu", pool="new"))
    cluster.settle()
    assert cluster.stored["cache", "m"]["metadata"]["finalizers"]
    assert cluster.entries("a") == []


def test_a_finalizer_removed_by_hand_costs_no_copies_and_comes_back(cluster: Cluster) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    before = len(cluster.writes)
    cluster.edit("cache", "m", lambda meta: meta.update(finalizers=[]))
    cluster.settle()
    assert [type(write).__name__ for write in cluster.writes[before:]] == ["AddFinalizer"]


def test_the_first_revision_an_agent_reports_is_what_all_nodes_hold(cluster: Cluster) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.report("a", report("m", "s3://models/m", "ModelDownloading", revision="r1"))
    cluster.settle()
    cluster.report("b", report("m", "s3://models/m", "ModelDownloading", revision="r2"))
    cluster.settle()
    assert cluster.status("m")["revision"] == "r1"
    assert lines(cluster, "b")[0]["revision"] == "r1"
    cluster.put("node", node("c"))
    cluster.put("cache", cache("same", uri="s3://models/m", created=9))
    cluster.settle()
    assert [line["revision"] for line in lines(cluster, "c")] == ["r1", "r1"]


def test_pinning_a_revision_that_all_nodes_resolved_anyway_costs_no_work_list(
    cluster: Cluster,
) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    for name in ("a", "b"):
        cluster.report(name, report("m", "s3://models/m", "ModelDownloading", revision="r1"))
    before = len(cluster.writes)
    cluster.settle()
    assert not any(isinstance(write, ApplyWorkList) for write in cluster.writes[before:])
    assert cluster.status("m")["revision"] == "r1"


def test_a_pinned_revision_makes_only_those_nodes_due_that_go_for_another(cluster: Cluster) -> None:
    for name in ("c", "d"):
        cluster.put("node", node(name))
    cluster.put("cache", cache("m"))
    cluster.settle()
    for name, revision in (("a", "r1"), ("b", "r1"), ("c", "r2")):
        cluster.report(name, report("m", "s3://models/m", "ModelDownloading", revision=revision))
    view = cluster.world.caches["m"]
    pinned = replace(view, revision="r1", resource_version="1000")
    dirty = routes.cache_changed(cluster.world, "m", pinned)
    assert dirty.nodes | dirty.settling == {"c"}


def test_a_node_that_has_resolved_nothing_yet_is_told_the_revision_with_its_next_list_only(
    cluster: Cluster,
) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.report("a", report("m", "s3://models/m", "ModelDownloading", revision="r1"))
    before = len(cluster.writes)
    cluster.settle()
    assert not any(isinstance(write, ApplyWorkList) for write in cluster.writes[before:])
    cluster.put("cache", cache("other"))
    cluster.settle()
    assert {line["modelName"]: line.get("revision") for line in lines(cluster, "b")} == {
        "m": "r1",
        "other": None,
    }


def test_a_retry_annotation_reaches_the_nodes(cluster: Cluster) -> None:
    raw = cache("m")
    raw["metadata"]["annotations"] = {"localmodel.kserve.io/retry": "1"}
    cluster.put("cache", raw)
    cluster.settle()
    assert lines(cluster, "a")[0]["retry"] == "1"


def test_a_flapping_node_rewrites_statuses_but_no_work_list(cluster: Cluster) -> None:
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.answer("a")
    cluster.answer("b")
    cluster.settle()
    before = len(cluster.writes)
    cluster.put("node", node("a", ready=False))
    cluster.settle()
    assert {type(write) for write in cluster.writes[before:]} == {
        ApplyCacheStatus,
        ApplyGroupStatus,
    }
    assert cluster.condition("m") == ("False", "NodeNotReady")
    cluster.put("node", node("a"))
    cluster.settle()
    assert cluster.condition("m") == ("True", "Available")
