"""The part of Kubernetes' controller manager that volumes see, and services, for `builders.Cluster`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, assert_never

from controller import routes, routes_serving
from controller.actions import (
    CreateClaim,
    CreateVolume,
    DeleteClaim,
    DeleteVolume,
    PatchVolume,
    VolumeAction,
)
from controller.serving import INFERENCE_SERVICE, LLM_INFERENCE_SERVICE
from controller.world import World
from shared.domain import serving

if TYPE_CHECKING:
    from tests.unit.controller.builders import Cluster

VERSION = "v1beta1"


def beginning() -> World:
    """Empty, with the lists of all services in, and volumes ours to make."""
    world = World()
    world.serving.known = {INFERENCE_SERVICE, LLM_INFERENCE_SERVICE}
    world.serving.managed = True
    return world


def service(
    name: str,
    cache: str = "m",
    *,
    namespace: str = "team",
    own: bool = False,
    group: str | None = None,
    claim: str | None = None,
) -> dict[str, Any]:
    labels = {serving.CACHE_LABEL: cache}
    if own:
        labels[serving.CACHE_NAMESPACE_LABEL] = namespace
    notes = {serving.GROUP_ANNOTATION: group, serving.CLAIM_ANNOTATION: claim}
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {key: value for key, value in notes.items() if value},
        }
    }


def tell(world: World, kind: str, key: str, obj: Mapping[str, Any] | None) -> routes.Dirty:
    namespace, _, name = key.rpartition("/")
    if kind == "volume":
        return routes_serving.volume_changed(world, key, serving.volume(obj) if obj else None)
    if kind == "claim":
        new = serving.claim(obj) if obj else None
        return routes_serving.claim_changed(world, (namespace, name), new)
    found = {
        (s.namespace, s.name): s for users in world.serving.users.values() for s in users.values()
    }
    view = serving.service(obj, INFERENCE_SERVICE) if obj else None
    return routes_serving.service_changed(world, VERSION, found.get((namespace, name)), view)


def execute(cluster: "Cluster", action: VolumeAction) -> None:
    match action:
        case CreateVolume(body=body):
            cluster.put("volume", {**body, "status": {"phase": "Available"}})
        case CreateClaim(body=body):
            cluster.put("claim", {**body, "status": {"phase": "Pending"}})
        case PatchVolume(name=name, patch=patch):
            old = cluster.stored["volume", name]
            spec = {**old["spec"], **patch.get("spec", {})}
            spec = {key: value for key, value in spec.items() if value is not None}
            meta = {**old["metadata"], **patch.get("metadata", {})}
            phase = "Bound" if "claimRef" in spec else "Available"
            cluster.put("volume", {"metadata": meta, "spec": spec, "status": {"phase": phase}})
        case DeleteVolume(name=name):
            cluster.remove("volume", name)
        case DeleteClaim(namespace=namespace, name=name):
            cluster.remove("claim", f"{namespace}/{name}")
        case _:
            assert_never(action)
    bind(cluster)


def bind(cluster: "Cluster") -> None:
    """Claims get the volume that they name when it is free; a volume whose claim went is Released."""
    claims = {key: obj for (kind, key), obj in cluster.stored.items() if kind == "claim"}
    volumes = {key: obj for (kind, key), obj in cluster.stored.items() if kind == "volume"}
    for obj in volumes.values():
        reference = obj["spec"].get("claimRef")
        if reference is None or obj["status"]["phase"] != "Bound":
            continue
        holder = claims.get(f"{reference['namespace']}/{reference['name']}")
        if holder is None or holder["metadata"]["uid"] != reference["uid"]:
            cluster.put("volume", {**obj, "status": {"phase": "Released"}})
    for obj in claims.values():
        wanted = cluster.stored.get(("volume", obj["spec"]["volumeName"]))
        if obj["status"]["phase"] == "Bound" or wanted is None or "claimRef" in wanted["spec"]:
            continue
        meta = obj["metadata"]
        reference = {name: meta[name] for name in ("namespace", "name", "uid")}
        spec = {**wanted["spec"], "claimRef": reference}
        cluster.put("volume", {**wanted, "spec": spec, "status": {"phase": "Bound"}})
        cluster.put("claim", {**obj, "status": {"phase": "Bound"}})


def collect(cluster: "Cluster") -> None:
    """What is owned goes with its owner."""
    uids = {obj["metadata"]["uid"] for (kind, _), obj in cluster.stored.items() if kind == "cache"}
    for kind, key in list(cluster.stored):
        if kind not in ("volume", "claim") or (kind, key) not in cluster.stored:
            continue
        owners = cluster.stored[kind, key]["metadata"].get("ownerReferences", ())
        if owners and not any(owner["uid"] in uids for owner in owners):
            cluster.remove(kind, key)
            bind(cluster)
