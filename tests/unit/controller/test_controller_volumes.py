from typing import Any

import pytest

from controller import routes, routes_serving
from controller.planning.configuration import Configuration, misfit, read_configuration
from controller.serving import INFERENCE_SERVICE, LLM_INFERENCE_SERVICE
from shared.domain import serving
from tests.unit.controller.binder import VERSION, bind, service
from tests.unit.controller.builders import Cluster, cache, group, node, report

VOLUME = "m-gpu-team"
CLAIM = "team/m-gpu"
URI = "s3://models/shared"


def with_volumes(**spec: Any) -> dict[str, Any]:
    made = group()
    made["spec"]["persistentVolumeSpec"] |= {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Ti"},
        **spec,
    }
    made["spec"]["persistentVolumeClaimSpec"] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Ti"}},
    }
    return made


@pytest.fixture
def cluster() -> Cluster:
    """Cache m through group gpu on node a, used by the service team/s."""
    made = Cluster()
    made.put("group", with_volumes())
    made.put("node", node("a"))
    made.put("cache", cache("m"))
    made.put("service", service("s"))
    made.settle()
    return made


def stored(cluster: Cluster, kind: str) -> set[str]:
    return {key for have, key in cluster.stored if have == kind}


def names(cluster: Cluster, key: str = "m") -> list[str]:
    return [s["name"] for s in cluster.status(key).get("inferenceServices", ())]


def test_a_service_gets_its_pair_and_stands_in_the_status(cluster: Cluster) -> None:
    assert stored(cluster, "volume") == {VOLUME}
    assert stored(cluster, "claim") == {CLAIM}
    assert cluster.stored["claim", CLAIM]["status"]["phase"] == "Bound"
    assert cluster.condition("m", "Servable") == ("True", "Available")
    assert names(cluster) == ["s"]


def test_a_claim_that_is_not_bound_yet_is_told(cluster: Cluster) -> None:
    claim = cluster.stored["claim", CLAIM]
    cluster.put("claim", {**claim, "status": {"phase": "Pending"}})
    cluster.settle()
    assert cluster.condition("m", "Servable") == ("False", "VolumesPending")


@pytest.mark.parametrize(("kind", "key"), [("volume", VOLUME), ("claim", CLAIM)])
def test_what_others_note_on_a_volume_or_claim_is_no_reason_to_look_again(
    cluster: Cluster, kind: str, key: str
) -> None:
    cluster.edit(kind, key, lambda meta: meta.update(labels={"a": "b"}))
    assert cluster.dirty == routes.Dirty()
    seen = cluster.world.serving
    versions = {
        "volume": [view.resource_version for view in seen.volumes.values()],
        "claim": [view.resource_version for view in seen.claims.values()],
    }
    stored = cluster.stored[kind, key]["metadata"]
    assert versions[kind] == [stored["resourceVersion"]]  # for the next write to it
    cluster.edit(kind, key, lambda meta: meta.update(deletionTimestamp="2026-01-02T00:00:00Z"))
    assert cluster.dirty.volumes == {"m"}


def test_nothing_more_is_written_also_after_a_restart(cluster: Cluster) -> None:
    cluster.restart()
    assert cluster.settle() == 0


def test_a_cache_without_services_says_nothing_of_volumes() -> None:
    cluster = Cluster()
    cluster.put("group", with_volumes())
    cluster.put("cache", cache("m"))
    cluster.settle()
    assert stored(cluster, "volume") == set()
    types = [c["type"] for c in cluster.status("m")["conditions"]]
    assert types == ["Ready", "Reconciling", "Stalled"]


def test_the_pair_stays_when_the_last_service_goes_and_goes_with_the_cache(
    cluster: Cluster,
) -> None:
    cluster.remove("service", "team/s")
    cluster.settle()
    assert names(cluster) == []
    assert stored(cluster, "claim") == {CLAIM}
    cluster.remove("cache", "m")
    cluster.settle()
    assert stored(cluster, "claim") | stored(cluster, "volume") == set()


def test_a_namespace_caches_volume_is_deleted_explicitly() -> None:
    cluster = Cluster()
    cluster.put("group", with_volumes())
    cluster.put("cache", cache("m", namespace="team"))
    cluster.put("service", service("s", own=True))
    cluster.put("service", service("foreign", own=True, namespace="other"))
    cluster.put("service", service("not-own", namespace="other"))
    cluster.settle()
    assert stored(cluster, "volume") == {VOLUME}
    assert names(cluster, "team/m") == ["s"]
    cluster.remove("cache", "team/m")
    cluster.settle()
    assert stored(cluster, "claim") | stored(cluster, "volume") == set()


def test_a_volume_that_a_namespace_cache_left_while_no_controller_ran_goes_too() -> None:
    cluster = Cluster()
    cluster.put("group", with_volumes())
    cluster.put("cache", cache("m", namespace="team"))
    cluster.put("service", service("s", own=True))
    cluster.settle()
    cluster.edit("cache", "team/m", lambda meta: meta.update(finalizers=[]))
    cluster.remove("cache", "team/m")
    cluster.restart()
    cluster.settle()
    assert stored(cluster, "volume") == set()


def test_kserves_own_volume_of_a_namespace_cache_is_known_by_its_claim() -> None:
    cluster = Cluster()
    cluster.put("group", with_volumes())
    cluster.put("cache", cache("m", namespace="team"))
    cluster.put("service", service("s", own=True))
    cluster.settle()
    unmarked = dict(cluster.stored["volume", VOLUME])
    unmarked["metadata"] = {**unmarked["metadata"], "annotations": {}}
    cluster.put("volume", unmarked)
    cluster.restart()
    cluster.settle()
    marks = cluster.stored["volume", VOLUME]["metadata"]["annotations"]
    assert marks == {serving.CACHE_ANNOTATION: "team/m"}


def test_a_service_may_choose_a_group_of_the_cache_and_no_other(cluster: Cluster) -> None:
    cluster.put("group", {**with_volumes(), "metadata": {"name": "cpu"}})
    cluster.put("cache", cache("m", "gpu", "cpu"))
    cluster.put("service", service("t", group="cpu", namespace="b"))
    cluster.put("service", service("u", group="other", namespace="c"))
    cluster.settle()
    assert stored(cluster, "claim") == {CLAIM, "b/m-cpu"}
    assert cluster.condition("m", "Servable") == ("False", "NodeGroupNotFound")
    assert "c/u" in cluster.message("m", "Servable")["message"]
    assert names(cluster) == ["t", "u", "s"]


def test_a_claim_that_pods_were_told_to_mount_outlives_edits_of_groups(cluster: Cluster) -> None:
    cluster.put("group", {**with_volumes(), "metadata": {"name": "new"}})
    cluster.put("service", service("s", claim="m-gpu"))
    cluster.put("cache", cache("m", "new"))
    cluster.settle()
    assert stored(cluster, "claim") == {CLAIM, "team/m-new"}
    cluster.remove("claim", CLAIM)
    bind(cluster)
    cluster.settle()
    assert stored(cluster, "claim") == {CLAIM, "team/m-new"}
    assert cluster.stored["claim", CLAIM]["status"]["phase"] == "Bound"


def test_a_released_volume_forgets_its_former_claim(cluster: Cluster) -> None:
    cluster.remove("claim", CLAIM)
    bind(cluster)
    cluster.settle()
    uid = cluster.stored["claim", CLAIM]["metadata"]["uid"]
    assert cluster.stored["volume", VOLUME]["spec"]["claimRef"]["uid"] == uid
    assert cluster.condition("m", "Servable") == ("True", "Available")


def test_group_edits_reach_the_volume_where_they_can_and_are_told_where_not(
    cluster: Cluster,
) -> None:
    cluster.put("group", with_volumes(capacity={"storage": "2Ti"}, mountOptions=["ro"]))
    cluster.settle()
    spec = cluster.stored["volume", VOLUME]["spec"]
    assert (spec["capacity"], spec["mountOptions"]) == ({"storage": "2Ti"}, ["ro"])
    cluster.put("group", with_volumes(local={"path": "/other"}, capacity={"storage": "2048Gi"}))
    cluster.settle()
    assert "mountOptions" not in cluster.stored["volume", VOLUME]["spec"]
    assert cluster.condition("m", "Servable") == ("True", "VolumeOutdated")
    assert "its former local" in cluster.message("m", "Servable")["message"]
    cluster.remove("service", "team/s")
    cluster.settle()
    assert stored(cluster, "volume") == set()
    cluster.put("service", service("s"))
    cluster.settle()
    assert cluster.stored["volume", VOLUME]["spec"]["local"] == {"path": "/other"}
    assert cluster.condition("m", "Servable") == ("True", "Available")


@pytest.mark.parametrize("kind", ["volume", "claim"])
def test_what_belongs_to_somebody_else_is_left_alone_and_named(kind: str) -> None:
    cluster = Cluster()
    cluster.put("group", with_volumes())
    cluster.put("cache", cache("m"))
    meta = {"name": VOLUME} if kind == "volume" else {"name": "m-gpu", "namespace": "team"}
    theirs = {"metadata": meta, "spec": {"volumeName": "x"}, "status": {"phase": "Available"}}
    key = cluster.put(kind, theirs)
    cluster.put("service", service("s"))
    cluster.settle()
    assert cluster.condition("m", "Servable") == ("False", "VolumeNameConflict")
    assert key in cluster.message("m", "Servable")["message"]
    assert stored(cluster, "volume") | stored(cluster, "claim") == {key}
    cluster.remove(kind, key)
    cluster.settle()
    assert cluster.condition("m", "Servable") == ("True", "Available")


def test_a_cache_of_the_same_name_waits_for_the_volumes_of_the_former_to_go(
    cluster: Cluster,
) -> None:
    former = cluster.stored["volume", VOLUME]
    cluster.world.serving.volumes[VOLUME] = serving.volume(former)
    cluster.edit("cache", "m", lambda meta: meta.update(uid="another"))
    cluster.settle()
    assert stored(cluster, "volume") == {VOLUME}
    assert cluster.stored["volume", VOLUME]["metadata"]["uid"] != former["metadata"]["uid"]
    assert cluster.condition("m", "Servable") == ("True", "Available")


def test_names_that_kubernetes_would_refuse_are_said_to_be_not_servable() -> None:
    cluster = Cluster()
    cluster.put("group", {**with_volumes(), "metadata": {"name": "g" * 200}})
    cluster.put("cache", cache("n" * 253))
    cluster.put("cache", cache("short" * 12, "g" * 200))
    cluster.settle()
    assert cluster.condition("n" * 253, "Servable") == ("False", "NotServable")
    assert "label" in cluster.message("n" * 253, "Servable")["message"]
    assert "261 characters" in cluster.message("short" * 12, "Servable")["message"]


def test_volumes_that_are_not_ours_to_manage_are_neither_made_nor_changed() -> None:
    cluster = Cluster()
    cluster._add(routes_serving.configuration_changed(cluster.world, False, None))
    cluster.put("group", with_volumes())
    cluster.put("cache", cache("m"))
    cluster.put("service", service("s"))
    cluster.settle()
    assert stored(cluster, "volume") == set()
    assert names(cluster) == ["s"]
    cluster._add(routes_serving.configuration_changed(cluster.world, True, None))
    cluster.settle()
    assert stored(cluster, "volume") == {VOLUME}


def test_services_that_cannot_be_seen_now_still_protect_their_cache(cluster: Cluster) -> None:
    cluster.stored.pop(("service", "team/s"))
    cluster.restart()
    cluster.world.serving.known.clear()
    cluster.world.serving.managed = None
    assert cluster.settle() == 0
    assert names(cluster) == ["s"]
    assert cluster.condition("m", "Servable") == ("True", "Available")
    cluster._add(routes_serving.services_known(cluster.world, INFERENCE_SERVICE))
    cluster.settle()
    assert names(cluster) == []


@pytest.mark.parametrize("unknown", ["configuration", "services"])
def test_what_a_status_says_of_volumes_that_are_gone_is_corrected_once_all_is_known(
    cluster: Cluster, unknown: str
) -> None:
    # While no controller runs.
    for thing in (("service", "team/s"), ("claim", CLAIM), ("volume", VOLUME)):
        del cluster.stored[thing]
    cluster.restart()
    world = cluster.world
    if unknown == "services":
        world.serving.known = {INFERENCE_SERVICE}
    else:
        world.serving.managed = None
    cluster.settle()
    assert names(cluster) == []
    assert cluster.condition("m", "Servable") == ("True", "Available")
    if unknown == "services":
        cluster._add(routes_serving.services_known(world, LLM_INFERENCE_SERVICE))
    else:
        cluster._add(routes_serving.configuration_changed(world, True, None))
    cluster.settle()
    assert "Servable" not in {c["type"] for c in cluster.status("m")["conditions"]}


def test_an_outdated_pair_is_replaced_only_once_it_is_known_that_no_service_uses_it(
    cluster: Cluster,
) -> None:
    """A new controller may see volumes and claims before it sees services."""
    cluster.put("group", with_volumes(local={"path": "/other"}))
    cluster.settle()
    cluster.stored.pop(("service", "team/s"))
    cluster.restart()
    cluster.world.serving.known = {LLM_INFERENCE_SERVICE}
    cluster.settle()
    assert (stored(cluster, "volume"), stored(cluster, "claim")) == ({VOLUME}, {CLAIM})
    cluster._add(routes_serving.services_known(cluster.world, INFERENCE_SERVICE))
    cluster.settle()
    assert (stored(cluster, "volume"), stored(cluster, "claim")) == (set(), set())


def test_a_service_that_two_versions_show_is_counted_once(cluster: Cluster) -> None:
    view = serving.service(cluster.stored["service", "team/s"], INFERENCE_SERVICE)
    cluster._add(routes_serving.service_changed(cluster.world, "v2", None, view))
    cluster.settle()
    assert names(cluster) == ["s"]
    cluster._add(routes_serving.service_changed(cluster.world, VERSION, view, None))
    cluster.settle()
    assert names(cluster) == ["s"]
    cluster._add(routes_serving.service_changed(cluster.world, "v2", view, None))
    cluster.settle()
    assert names(cluster) == []


def test_a_broken_configuration_is_shown_on_the_groups_and_mended(cluster: Cluster) -> None:
    found = misfit(Configuration(job_namespace="elsewhere"), "kserve", "jobs")
    assert found is not None
    cluster._add(routes_serving.configuration_changed(cluster.world, True, found))
    cluster.settle()
    assert cluster.condition("gpu", "Configured", "group") == (
        "False",
        "CredentialsNamespaceMismatch",
    )
    assert "kubectl -n kserve edit" in cluster.message("gpu", "Configured", "group")["message"]
    cluster._add(routes_serving.configuration_changed(cluster.world, True, None))
    cluster.settle()
    conditions = cluster.stored["group", "gpu"]["status"]["conditions"]
    assert [c["type"] for c in conditions] == ["Ready"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", Configuration()),
        ('{"disableVolumeManagement": true}', Configuration(managed=False)),
        ('{"jobNamespace": "x", "enabled": true}', Configuration(job_namespace="x")),
    ],
)
def test_the_configuration_is_read(text: str, expected: Configuration) -> None:
    assert read_configuration({"localModel": text}) == expected


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"disableVolumeManagement": "yes"}', '{"jobNamespace": 7}'],
)
def test_what_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="localModel"):
        read_configuration({"localModel": text})


def test_what_others_credentials_brought_is_served_to_nobody_whom_the_source_refuses() -> None:
    cluster = Cluster()
    cluster.put("group", with_volumes())
    cluster.put("node", node("a"))
    cluster.put("cache", cache("m", uri=URI, serviceAccountName="rich"))
    cluster.put("cache", cache("poor", uri=URI, namespace="team", serviceAccountName="poor"))
    cluster.put("service", service("s"))
    cluster.put("service", service("t", "poor", own=True))
    cluster.settle()
    assert stored(cluster, "claim") == set()
    assert cluster.condition("m", "Servable") == ("False", "VolumesPending")
    denied = report("team/poor", URI, "ModelDownloadError", reason="AccessDenied")
    cluster.report("a", report("m", URI), denied)
    cluster.settle()
    assert stored(cluster, "claim") == {CLAIM}
    assert cluster.condition("team/poor", "Servable") == ("False", "AccessDenied")
    cluster.report("a", report("m", URI), report("team/poor", URI))
    cluster.settle()
    assert stored(cluster, "claim") == {CLAIM, "team/poor-gpu"}
    cluster.report("a", report("m", URI), denied)
    cluster.settle()
    assert stored(cluster, "claim") == {CLAIM, "team/poor-gpu"}
