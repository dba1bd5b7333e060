"""What of a group's edited volume specs Kubernetes lets into volumes that exist. Pure.

Compared is what the group says: fields that the API server filled in, or other controllers own, are no difference.
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.domain.quantity import parse_quantity

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
