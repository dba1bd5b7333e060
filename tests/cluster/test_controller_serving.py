"""Volumes and claims for services on the real control plane, whose own controllers bind, release and collect them."""

import json
from typing import Any

import pytest

from tests.cluster import kserve
from tests.cluster.scene import Scene


@pytest.fixture(scope="module")
def services() -> tuple[str, ...]:
    return (kserve.INFERENCE, kserve.LLM)


@pytest.fixture
def scene(scene: Scene) -> Scene:
    """And a namespace `team`."""
    scene.add_namespace("team")
    return scene


def volume(scene: Scene, name: str) -> dict[str, Any]:
    return scene.read("persistentvolume", name) or {}


def claim(scene: Scene, name: str, namespace: str = "team") -> dict[str, Any]:
    return scene.read("persistentvolumeclaim", name, namespace=scene.name(namespace)) or {}


def bound(scene: Scene, name: str = "m", group: str = "gpu", namespace: str = "team") -> bool:
    found = scene.read(
        "persistentvolumeclaim", f"{name}-{scene.name(group)}", namespace=scene.name(namespace)
    )
    return bool((found or {}).get("status", {}).get("phase") == "Bound")


def users(scene: Scene, name: str = "m", **scope: Any) -> list[str]:
    status = scene.status(name, **scope)
    services = [
        *status.get("inferenceServices", ()),
        *status.get("llmInferenceServices", ()),
    ]
    return [s["name"].removeprefix(scene.prefix) for s in services]


def test_a_service_gets_the_pair_that_kserve_would_make(scene: Scene) -> None:
    scene.add_cache()
    scene.add_service("s")
    scene.wait(lambda: bound(scene), "claim bound")
    cache = scene.read("localmodelcache", "m")
    assert cache is not None
    owner = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelCache",
        "name": scene.name("m"),
        "uid": cache["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    gpu, team = scene.name("gpu"), scene.name("team")
    pvc, pv = claim(scene, f"m-{gpu}"), volume(scene, f"m-{gpu}-{team}")
    assert pvc["metadata"]["ownerReferences"] == [owner]
    assert pv["metadata"]["ownerReferences"] == [owner]
    assert pvc["spec"]["volumeName"] == pv["metadata"]["name"]
    assert pv["spec"]["local"] == {"path": "/models"}
    scene.wait(lambda: users(scene) == ["s"], "service in the status")
    assert scene.status()["inferenceServices"] == [{"name": scene.name("s"), "namespace": team}]
    scene.wait(lambda: scene.condition(type="Servable")["status"] == "True", "servable")


def test_services_of_both_kinds_are_listed_exactly_and_pairs_stay_when_they_go(
    scene: Scene,
) -> None:
    scene.add_cache()
    scene.add_service("s")
    scene.add_service("t", kind=kserve.LLM)
    scene.wait(lambda: users(scene) == ["s", "t"], "both in the status")
    assert scene.status()["llmInferenceServices"][0]["name"] == scene.name("t")
    scene.wait(lambda: bound(scene), "claim bound")
    scene.delete_service("t", kind=kserve.LLM)
    scene.wait(lambda: users(scene) == ["s"], "one is left")
    scene.relabel_service("s", "another")
    scene.wait(lambda: users(scene) == [], "none is left")
    assert bound(scene)
    scene.delete("localmodelcache", "m")
    scene.wait(lambda: not claim(scene, f"m-{scene.name('gpu')}"), "claim is collected")
    name = f"m-{scene.name('gpu')}-{scene.name('team')}"
    scene.wait(lambda: not volume(scene, name), "volume is collected")


def test_a_namespace_cache_serves_its_own_namespace_and_takes_its_volume_along(
    scene: Scene,
) -> None:
    scene.add_namespace("other")
    team = scene.name("team")
    scene.add_cache("m", namespace=team)
    scene.add_service("s", own=True)
    scene.add_service("foreign", namespace="other")
    scene.wait(lambda: bound(scene), "claim bound")
    name = f"m-{scene.name('gpu')}-{team}"
    assert "ownerReferences" not in volume(scene, name)["metadata"]
    owner = claim(scene, f"m-{scene.name('gpu')}")["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"]) == ("LocalModelNamespaceCache", scene.name("m"))
    scene.wait(lambda: users(scene, namespace=team) == ["s"], "service in the status")
    scene.delete_service("s")
    scene.wait(lambda: users(scene, namespace=team) == [], "status without it")
    scene.delete("localmodelnamespacecache", "m", namespace=team)
    scene.wait(lambda: not volume(scene, name), "volume is gone")
    assert not bound(scene, namespace="other")


def test_a_service_chooses_a_group_of_the_cache_by_annotation(scene: Scene) -> None:
    scene.add_group("cpu")
    scene.add_cache("m", "gpu", "cpu")
    scene.add_service("s", group="cpu")
    scene.add_service("t", group="elsewhere")
    scene.wait(lambda: bound(scene, group="cpu"), "claim of the chosen group bound")
    assert not bound(scene, group="gpu")
    scene.wait(lambda: users(scene) == ["s", "t"], "both in the status")
    scene.wait(
        lambda: scene.condition(type="Servable")["reason"] == "NodeGroupNotFound", "misfit is told"
    )
    assert f"{scene.name('team')}/{scene.name('t')}" in scene.condition(type="Servable")["message"]


def test_a_released_volume_is_healed_when_its_claim_comes_back(scene: Scene) -> None:
    scene.add_cache()
    scene.add_service("s")
    scene.wait(lambda: bound(scene), "claim bound")
    name, team = f"m-{scene.name('gpu')}", scene.name("team")
    first = claim(scene, name)["metadata"]["uid"]
    scene.control_plane.kubectl(
        "delete", "persistentvolumeclaim", scene.name(name), "-n", team, "--timeout=20s"
    )
    scene.wait(
        lambda: bound(scene) and claim(scene, name)["metadata"]["uid"] != first, "bound again"
    )


def test_a_volume_that_somebody_forced_away_is_made_again_and_its_lost_claim_bound(
    scene: Scene,
) -> None:
    scene.add_cache()
    scene.add_service("s")
    scene.wait(lambda: bound(scene), "claim bound")
    name = f"m-{scene.name('gpu')}-{scene.name('team')}"
    before = volume(scene, name)["metadata"]["uid"]
    unprotected = json.dumps({"metadata": {"finalizers": None}})
    plane = scene.control_plane
    plane.kubectl("delete", "persistentvolume", scene.name(name), "--wait=false")
    plane.kubectl("patch", "persistentvolume", scene.name(name), "--type=merge", "-p", unprotected)
    scene.wait(
        lambda: (
            volume(scene, name).get("metadata", {}).get("uid") not in (None, before)
            and bound(scene)
        ),
        "made again and bound",
    )


def test_group_edits_reach_volumes_where_kubernetes_allows_it(scene: Scene) -> None:
    scene.add_cache()
    scene.add_service("s")
    scene.wait(lambda: bound(scene), "claim bound")
    name = f"m-{scene.name('gpu')}-{scene.name('team')}"
    scene.add_group("gpu", limit="200Gi")
    scene.wait(
        lambda: volume(scene, name)["spec"]["capacity"] == {"storage": "200Gi"}, "capacity follows"
    )
    before = volume(scene, name)["metadata"]["uid"]
    scene.add_group("gpu", limit="200Gi", pool="new")
    scene.wait(
        lambda: "nodeAffinity" in scene.condition(type="Servable")["message"], "what stays is told"
    )
    assert scene.condition(type="Servable")["reason"] == "VolumeOutdated"
    assert scene.condition(type="Servable")["status"] == "True"
    scene.delete_service("s")
    scene.wait(lambda: volume(scene, name).get("metadata", {}).get("uid") != before, "replaced")
    scene.add_service("s")
    scene.wait(lambda: bound(scene), "claim bound")
    affinity = json.dumps(volume(scene, name)["spec"]["nodeAffinity"])
    assert scene.name("new") in affinity


def test_volumes_of_others_are_never_taken_over(scene: Scene) -> None:
    scene.add_cache()
    name = f"m-{scene.name('gpu')}-{scene.name('team')}"
    scene.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": scene.name(name)},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": "/theirs"},
            },
        }
    )
    scene.add_service("s")
    scene.wait(
        lambda: scene.condition(type="Servable")["reason"] == "VolumeNameConflict", "conflict told"
    )
    assert scene.condition(type="Servable")["status"] == "False"
    assert volume(scene, name)["spec"]["hostPath"]["path"] == "/theirs"
    assert not claim(scene, f"m-{scene.name('gpu')}")
    scene.delete("persistentvolume", name)
    scene.wait(lambda: bound(scene), "ours takes its place")


def test_a_namespace_that_takes_no_claim_is_named_and_keeps_no_other_waiting(scene: Scene) -> None:
    scene.add_namespace("full")  # sorted before `team`
    full = scene.name("full")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": scene.name("none"), "namespace": full},
        "spec": {"hard": {"persistentvolumeclaims": "0"}},
    }
    scene.apply(quota)
    scene.add_cache()
    scene.add_service("s", namespace="full")
    scene.add_service("t")
    scene.wait(lambda: bound(scene), "the other's claim bound")
    assert not claim(scene, f"m-{scene.name('gpu')}", "full")
    scene.wait(
        lambda: f"namespace {full}: " in scene.condition(type="Servable").get("message", ""), "told"
    )
    assert scene.condition(type="Servable")["status"] == "False"
    assert scene.condition(type="Servable")["reason"] == "VolumeRefused"
    assert "team" not in scene.condition(type="Servable")["message"]
    scene.control_plane.kubectl("delete", "resourcequota", scene.name("none"), "-n", full)
    scene.wait(lambda: bound(scene, namespace="full"), "claim bound when it may", seconds=60)
    scene.wait(lambda: scene.condition(type="Servable")["status"] == "True", "servable again")


def test_a_cache_in_use_cannot_be_deleted_and_an_annotation_is_the_way_out(scene: Scene) -> None:
    scene.add_cache()
    for index in range(7):
        scene.add_service(f"s{index}", kind=kserve.LLM if index == 6 else kserve.INFERENCE)
    scene.wait(lambda: len(users(scene)) == 7, "services in the status")
    answer = scene.try_delete("localmodelcache", "m")
    assert "Forbidden" in answer
    assert f"InferenceService {scene.name('team')}/{scene.name('s0')}" in answer
    assert "and 2 more" in answer
    assert "force-delete=true" in answer
    for index in range(7):
        scene.delete_service(f"s{index}", kind=kserve.LLM if index == 6 else kserve.INFERENCE)
    scene.wait(lambda: users(scene) == [], "no service left")
    scene.add_service("last")
    scene.wait(lambda: users(scene) == ["last"], "one service")
    assert "Forbidden" in scene.try_delete("localmodelcache", "m")
    scene.control_plane.kubectl(
        "annotate", "localmodelcache", scene.name("m"), "localmodel.kserve.io/force-delete=true"
    )
    scene.delete("localmodelcache", "m")
    scene.wait(lambda: scene.read("localmodelcache", "m") is None, "cache is gone")


def test_the_way_out_is_the_one_value_and_also_for_a_namespaces_cache(scene: Scene) -> None:
    team, kind = scene.name("team"), "localmodelnamespacecache"
    scene.add_cache("m", namespace=team)
    scene.add_service("s", own=True)
    scene.wait(lambda: users(scene, namespace=team) == ["s"], "service in the status")
    for value, refused in (("false", True), ("true", False)):
        note = f"localmodel.kserve.io/force-delete={value}"
        scene.control_plane.kubectl(
            "annotate", "--overwrite", kind, scene.name("m"), "-n", team, note
        )
        assert ("Forbidden" in scene.try_delete(kind, "m", namespace=team)) is refused
    scene.wait(lambda: scene.read(kind, "m", namespace=team) is None, "cache is gone")


def test_a_namespace_in_use_takes_its_caches_along(scene: Scene) -> None:
    team = scene.name("team")
    scene.add_cache("m", namespace=team)
    scene.add_service("s", own=True)
    scene.wait(lambda: users(scene, namespace=team) == ["s"], "service in the status")
    scene.wait(lambda: scene.ready("m", namespace=team), "on its node")
    assert "Forbidden" in scene.try_delete("localmodelnamespacecache", "m", namespace=team)
    scene.control_plane.kubectl("delete", "namespace", team, "--timeout=40s")
    assert not volume(scene, f"m-{scene.name('gpu')}-{team}")
    assert scene.work_list("a") == []
    assert (scene.read("localmodelnode", "a") or {})["status"]["models"] == []


def test_a_name_of_253_characters_is_cached_and_said_to_be_not_servable(scene: Scene) -> None:
    name = "x" * (253 - len(scene.prefix))
    scene.add_cache(name)
    scene.wait(lambda: scene.ready(name), "cached")
    assert scene.condition(name, "Servable")["reason"] == "NotServable"
    assert scene.work_list("a") == [name]


def test_two_hundred_services_in_many_namespaces(scene: Scene) -> None:
    namespaces = [f"n{index}" for index in range(10)]
    for namespace in namespaces:
        scene.add_namespace(namespace)
    scene.add_cache()
    scene.add_services(
        kserve.service(f"s{i}", scene.name(namespaces[i % 10]), scene.name("m")) for i in range(200)
    )
    scene.wait(lambda: len(users(scene)) == 200, "all in the status")
    scene.wait(
        lambda: all(bound(scene, namespace=namespace) for namespace in namespaces), "all bound"
    )
    assert "and 195 more" in scene.try_delete("localmodelcache", "m")
