"""What a group's volume specs make of a cache's volume and claim, and what of later edits Kubernetes lets into them. Pure.

Compared is what the group says: fields that the API server filled in, or other controllers own, are no difference.
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.api.meta import API_VERSION
from shared.domain.quantity import parse_quantity
from shared.domain.serving import CACHE_ANNOTATION, Pair
from shared.domain.views import CacheView, GroupView

# What an update of a PersistentVolume may change, with what stands for absence.
_MUTABLE: Final[Mapping[str, Any]] = {
    "accessModes": [],
    "capacity": {},
    "mountOptions": [],
    "persistentVolumeReclaimPolicy": "Retain",
    "storageClassName": "",
}
_NOT_COMPARED: Final = frozenset({"claimRef", "volumeName"})
_DEFAULTS: Final[Mapping[str, Any]] = {"volumeMode": "Filesystem", "storageClassName": ""}


def updated(want: Mapping[str, Any], have: Mapping[str, Any]) -> dict[str, Any]:
    """Merge patch of a PersistentVolume's spec."""
    patch: dict[str, Any] = {}
    for name, absent in _MUTABLE.items():
        value = want.get(name)
        if _plain(have.get(name) or absent) == _plain(value or absent):
            continue
        if isinstance(value, dict):  # what is left out of a merge patch would stay
            value = {**dict.fromkeys(have.get(name) or {}), **value}
        patch[name] = value
    return patch


def outdated(want: Mapping[str, Any], have: Mapping[str, Any]) -> list[str]:
    """Fields of a PersistentVolume that differ and cannot be changed."""
    names = [name for name in want if name not in _MUTABLE and name not in _NOT_COMPARED]
    return [name for name in names if not _covers(have.get(name, _DEFAULTS.get(name)), want[name])]


def claim_outdated(want: Mapping[str, Any], have: Mapping[str, Any]) -> list[str]:
    """Fields of a claim that differ; none of them can be changed once it is bound."""
    return [
        name
        for name in want
        if name not in _NOT_COMPARED
        and not _covers(have.get(name, _DEFAULTS.get(name)), want[name])
    ]


def _covers(have: object, want: object) -> bool:
    """Whether all that is wanted is there; more may be."""
    if isinstance(want, dict):
        return isinstance(have, dict) and all(
            _covers(have.get(key), value) for key, value in want.items()
        )
    if isinstance(want, list):
        return (
            isinstance(have, list)
            and len(have) == len(want)
            and all(_covers(a, b) for a, b in zip(have, want, strict=True))
        )
    return have == want or _plain(have) == _plain(want)


def _plain(value: object) -> object:
    """Quantities as bytes, so that 1Ti and 1024Gi are the same."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, str | int):
        try:
            return parse_quantity(value)
        except ValueError:
            return value
    return value


def new_volume(cache: CacheView, group: GroupView, one: Pair) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": one.volume, "annotations": {CACHE_ANNOTATION: cache.key}}
    if cache.namespace is None:
        meta["ownerReferences"] = [_reference(cache)]
    spec = {name: value for name, value in group.volume.items() if name != "claimRef"}
    return {"metadata": meta, "spec": spec}


def new_claim(cache: CacheView, group: GroupView, one: Pair) -> dict[str, Any]:
    spec = {**group.claim, "volumeName": one.volume}
    if group.volume.get("storageClassName") is None:
        spec.setdefault("storageClassName", "")  # else a cluster's default class would be filled in
    meta = {"name": one.claim, "namespace": one.namespace, "ownerReferences": [_reference(cache)]}
    return {"metadata": meta, "spec": spec}


def _reference(cache: CacheView) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": cache.kind,
        "name": cache.name,
        "uid": cache.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
