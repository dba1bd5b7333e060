import pytest

from shared.domain import parse
from shared.domain.forecast import Verdict, forecast
from tests.unit.controller.builders import GIB, Cluster, cache, group, node, report


@pytest.fixture
def cluster() -> Cluster:
    """One ready node, and a group that allows 10 GiB on it."""
    made = Cluster()
    made.put("group", group(limit="10Gi"))
    made.put("node", node("a"))
    return made


def test_older_caches_first_and_what_does_not_fit_says_need_limit_and_holder(
    cluster: Cluster,
) -> None:
    cluster.put("cache", cache("young", size="6Gi", created=2))
    cluster.put("cache", cache("old", size="6Gi", created=1))
    cluster.put("cache", cache("small", size="4Gi", created=3))
    cluster.settle()
    assert cluster.entries("a") == ["old", "small"]
    ready = cluster.message("young")
    assert (ready["status"], ready["reason"]) == ("False", "NoSpace")
    assert ready["message"] == (
        "0 of 1 copies available; a: needs 6.0 GiB; group gpu allows 10.0 GiB per node, 10.0 GiB held by old (6.0 GiB), small (4.0 GiB)"
    )
    assert cluster.condition("young", "Stalled") == ("True", "NoSpace")
    assert cluster.status("young")["copies"]["pending"] == 1


def test_what_is_there_stays_when_the_limit_shrinks_and_nothing_more_is_added(
    cluster: Cluster,
) -> None:
    cluster.put("cache", cache("m", size="8Gi", created=5))
    cluster.settle()
    cluster.put("group", group(limit="4Gi"))
    cluster.put("cache", cache("n", size="1Gi", created=1))
    cluster.settle()
    assert cluster.entries("a") == ["m"]
    status = cluster.stored["group", "gpu"]["status"]
    assert (status["used"], status["available"]) == ("8Gi", "0")


def test_a_cache_is_placed_by_itself_once_the_bytes_of_another_are_really_gone(
    cluster: Cluster,
) -> None:
    cluster.put("cache", cache("m", size="8Gi"))
    cluster.put("cache", cache("n", size="8Gi", created=1))
    cluster.settle()
    cluster.report("a", report("m", "s3://models/m", bytesTotal=8 * GIB))
    cluster.remove("cache", "m")
    cluster.settle()
    assert cluster.entries("a") == []
    assert "copies being removed (8.0 GiB)" in cluster.message("n")["message"]
    cluster.report("a", report("m", "s3://models/m", "", reason="Evicting", bytesTotal=8 * GIB))
    cluster.settle()
    assert cluster.entries("a") == []
    cluster.report("a")
    cluster.settle()
    assert cluster.entries("a") == ["n"]
    assert ("cache", "m") not in cluster.stored


def test_caches_of_one_uri_share_one_folder_that_counts_once(cluster: Cluster) -> None:
    for i in range(3):
        cluster.put("cache", cache(f"m{i}", uri="s3://models/m", size="10Gi", created=i))
    cluster.settle()
    assert cluster.entries("a") == ["m0", "m1", "m2"]
    assert cluster.stored["group", "gpu"]["status"]["used"] == "10Gi"


def test_a_shared_folder_counts_in_every_group_that_has_it(cluster: Cluster) -> None:
    cluster.put("group", group("narrow", limit="4Gi", pool="gpu"))
    cluster.put("cache", cache("m", uri="s3://models/m", size="6Gi"))
    cluster.put("cache", cache("n", "narrow", uri="s3://models/m", size="6Gi", created=1))
    cluster.put("cache", cache("o", "narrow", uri="s3://models/o", size="4Gi", created=2))
    cluster.settle()
    assert cluster.entries("a") == ["m", "o"]
    assert "group narrow allows 4.0 GiB" in cluster.message("n")["message"]


def test_a_model_that_turns_out_larger_counts_with_its_real_size(cluster: Cluster) -> None:
    cluster.put("cache", cache("m", size="1Gi"))
    cluster.settle()
    cluster.report("a", report("m", "s3://models/m", "ModelDownloading", bytesTotal=9 * GIB))
    cluster.put("cache", cache("n", size="2Gi", created=1))
    cluster.settle()
    assert cluster.entries("a") == ["m"]
    assert "needs 2.0 GiB" in cluster.message("n")["message"]
    assert "m (9.0 GiB)" in cluster.message("n")["message"]
    assert cluster.message("m")["message"].endswith(
        "; the model takes 9.0 GiB, modelSize says 1.0 GiB"
    )
    assert cluster.stored["group", "gpu"]["status"]["used"] == "9Gi"


def test_a_cache_that_takes_an_earlier_ones_name_does_not_inherit_its_size(
    cluster: Cluster,
) -> None:
    cluster.put("node", node("b"))
    cluster.put("cache", cache("m", uri="s3://models/large"))
    cluster.settle()
    cluster.report("a", report("m", "s3://models/large", bytesTotal=9 * GIB))
    cluster.report("b", report("m", "s3://models/large", bytesTotal=9 * GIB))
    cluster.settle()
    cluster.remove("cache", "m")
    cluster.silence("a", "b", abandoned=True)
    cluster.settle()
    cluster.put("cache", cache("m", uri="s3://models/small", size="1Gi"))
    cluster.silence()
    cluster.settle()
    assert cluster.status("m")["progress"]["bytesTotal"] == 2 * GIB
    assert "modelSize says" not in cluster.message("m")["message"]
    cluster.report("b", report("m", "s3://models/small", "ModelDownloading", bytesTotal=3 * GIB))
    cluster.settle()
    assert cluster.message("m")["message"].endswith(
        "the model takes 3.0 GiB, modelSize says 1.0 GiB"
    )


@pytest.mark.parametrize("nonsense", [-1, 9 * 10**18, "9", None])
def test_a_size_that_no_disk_has_counts_for_nobody(cluster: Cluster, nonsense: object) -> None:
    cluster.put("node", node("b"))
    cluster.put("cache", cache("m", size="1Gi"))
    cluster.settle()
    more = {"bytesTotal": nonsense, "bytesDone": nonsense}
    cluster.report("a", report("m", "s3://models/m", "ModelDownloading", **more))
    cluster.put("node", node("c"))
    cluster.settle()
    assert cluster.entries("c") == ["m"]
    assert cluster.status("m")["progress"] == {
        "bytesDone": 0,
        "bytesTotal": 3 * GIB,
        "percent": 0,
        "summary": "0%",
    }


def test_bytes_of_all_nodes_stay_within_what_the_api_can_hold(cluster: Cluster) -> None:
    cluster.put("node", node("b"))
    cluster.put("group", group(limit="8E"))
    cluster.put("cache", cache("m", size="7E"))
    cluster.settle()
    assert cluster.status("m")["progress"]["bytesTotal"] == 2**63 - 1


def test_the_agents_disk_counts_and_what_is_on_its_way_only_once(cluster: Cluster) -> None:
    cluster.put("cache", cache("m", size="3Gi"))
    cluster.settle()
    disk = {"capacityBytes": 9 * GIB, "availableBytes": 3 * GIB, "usedBytes": 1 * GIB}
    cluster.report(
        "a", report("m", "s3://models/m", "ModelDownloading", bytesDone=GIB), storage=disk
    )
    cluster.put("cache", cache("fits", size="1Gi", created=1))
    cluster.put("cache", cache("large", size="2Gi", created=2))
    cluster.settle()
    assert cluster.entries("a") == ["fits", "m"]
    assert "the node's disk has room for 4.0 GiB of models" in cluster.message("large")["message"]
    assert cluster.stored["group", "gpu"]["status"]["available"] == "0"


def test_who_lacks_disk_is_told_who_holds_it_through_whatever_group(cluster: Cluster) -> None:
    cluster.put("group", group("other", pool="gpu"))
    cluster.put("cache", cache("theirs", "other", size="3Gi"))
    cluster.put("cache", cache("shared", "other", uri="s3://models/theirs", size="3Gi", created=1))
    cluster.put("cache", cache("ours", "gpu", size="1Gi", created=2))
    cluster.settle()
    cluster.report("a", storage={"availableBytes": 4 * GIB, "usedBytes": 0})
    cluster.put("cache", cache("m", "gpu", size="2Gi", created=3))
    cluster.settle()
    assert cluster.message("m")["message"].endswith(
        "the node's disk has room for 4.0 GiB of models, 4.0 GiB held by theirs (3.0 GiB), ours (1.0 GiB)"
    )


def test_nothing_new_is_placed_through_a_group_whose_volumes_show_another_folder(
    cluster: Cluster,
) -> None:
    cluster.settle()
    cluster.report("a", agent={"version": "1", "hostPath": "/data"})
    cluster.put("cache", cache("m"))
    cluster.settle()
    assert cluster.entries("a") == []
    assert cluster.condition("m") == ("False", "PathMismatch")
    assert cluster.condition("gpu", kind="group") == ("False", "PathMismatch")
    message = cluster.message("gpu", kind="group")["message"]
    assert "/models" in message
    assert "/data" in message
    cluster.report("a", agent={"version": "1", "hostPath": "/models/"})
    cluster.settle()
    assert cluster.entries("a") == ["m"]


def test_a_forecast_says_per_node_fits_already_there_or_short_by_how_much(
    cluster: Cluster,
) -> None:
    cluster.put("node", node("b"))
    cluster.put("node", node("c", pool="other"))
    cluster.put("cache", cache("m", "narrow", size="8Gi"))
    cluster.put("group", group("narrow", **{"only": "a"}))
    cluster.put("node", node("a", pool="gpu", only="a"))
    cluster.settle()
    cluster.report("a", report("m", "s3://models/m"))
    world = cluster.world

    def ask(name: str, uri: str | None = None) -> list[tuple[str, Verdict, int]]:
        raw = cache(name, "gpu", size="9Gi", uri=uri)
        del raw["metadata"]["finalizers"]
        del raw["metadata"]["creationTimestamp"]
        answers = forecast(
            parse.cache(raw),
            nodes=world.nodes.values(),
            groups=world.groups,
            caches=world.caches.values(),
            works=world.works,
        )
        return [(f.node, f.verdict, f.waiting.short if f.waiting else 0) for f in answers]

    assert ask("new") == [("a", Verdict.FITS, 0), ("b", Verdict.FITS, 0)]
    assert ask("copy", "s3://models/m")[0] == ("a", Verdict.PRESENT, 0)
    cluster.put("group", group(limit="4Gi"))
    assert ask("new") == [("a", Verdict.WAITS, 5 * GIB), ("b", Verdict.WAITS, 5 * GIB)]
