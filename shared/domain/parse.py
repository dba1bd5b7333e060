"""Raw JSON of Kubernetes objects → views. Statuses may hold anything: what cannot be read is left out, never raised.

Written by hand and not by pydantic: a hundred thousand reports are read at every start.
"""

import hashlib
from collections.abc import Mapping
from sys import intern
from typing import Any
from weakref import WeakValueDictionary

import orjson
from pydantic import ValidationError

from shared.api.cache import RETRY_ANNOTATION, NodeState
from shared.api.core import NodeSelector
from shared.api.meta import Condition
from shared.api.node import LocalModelInfo, ModelState
from shared.domain.quantity import parse_quantity
from shared.domain.storage_key import status_key, storage_key
from shared.domain.views import (
    NOTHING,
    CacheView,
    Entry,
    GroupView,
    LeaseView,
    NodeView,
    ReportView,
    StorageView,
    WorkView,
)

OUR_CONDITIONS = frozenset({"Ready", "Reconciling", "Stalled", "Servable", "Configured"})
USERS = ("inferenceServices", "llmInferenceServices")
CACHE_STATUS = ("observedGeneration", "copies", "nodeStatus", "progress", "revision", *USERS)
GROUP_STATUS = ("observedGeneration", "used", "available", "nodes", "caches")

_ENTRY_FIELDS = tuple(field.alias or name for name, field in LocalModelInfo.model_fields.items())
_SPEC_FIELDS = tuple(
    name
    for name in _ENTRY_FIELDS
    if name not in {"modelName", "namespace", "nodeGroup", "revision", "retry"}
)
_MOST_BYTES = 2**53  # 8 PiB: no node has so much, and one agent's nonsense would count on all nodes
_STATES: Mapping[Any, ModelState] = {state.value: state for state in ModelState}
_UNHEARD = (NodeState.UNKNOWN.value, NodeState.NODE_NOT_READY.value)
_entries: WeakValueDictionary[bytes, Entry] = WeakValueDictionary()
_names: WeakValueDictionary[bytes, frozenset[str]] = WeakValueDictionary()


def entry(wire: Mapping[str, Any]) -> Entry:
    """The one Entry of this line; unknown fields are dropped."""
    known = {name: wire[name] for name in _ENTRY_FIELDS if wire.get(name) is not None}
    text = orjson.dumps(known, option=orjson.OPT_SORT_KEYS)
    found = _entries.get(text)
    if found is None:
        uri = _text(known.get("sourceModelUri")) or ""
        found = Entry(
            key=intern(
                status_key(_text(known.get("modelName")) or "", _text(known.get("namespace")))
            ),
            storage_key=intern(storage_key(uri)),
            group=_text(known.get("nodeGroup")),
            revision=_text(known.get("revision")),
            size=_size(known.get("modelSize"))[0],
            wire=known,
        )
        _entries[text] = found
    return found


def cache(raw: Mapping[str, Any]) -> CacheView:
    meta, spec, status = _section(raw, "metadata"), _section(raw, "spec"), _section(raw, "status")
    name, namespace = intern(meta["name"]), _text(meta.get("namespace"))
    uri = str(spec.get("sourceModelUri", ""))
    size, defect = _size(spec.get("modelSize"))
    wire = {field: spec[field] for field in _SPEC_FIELDS if spec.get(field) is not None}
    wire["modelName"] = name
    if namespace is not None:
        wire["namespace"] = namespace
    retry = _section(meta, "annotations").get(RETRY_ANNOTATION)
    if retry:
        wire["retry"] = retry
    return CacheView(
        key=intern(status_key(name, namespace)),
        namespace=namespace,
        name=name,
        uri=uri,
        storage_key=intern(storage_key(uri)),
        size=size,
        groups=tuple(intern(str(group)) for group in spec.get("nodeGroups") or ()),
        wire=wire,
        revision=_text(status.get("revision")),
        unheard=_unheard(status),
        users={name: status[name] for name in USERS if status.get(name)} or NOTHING,
        status=digest(status, CACHE_STATUS),
        conditions=_conditions(status),
        defect=f"spec.modelSize: {defect}" if defect else None,
        **_identity(meta),
        created=str(meta.get("creationTimestamp") or ""),
        finalizers=tuple(meta.get("finalizers") or ()),
        deleting=bool(meta.get("deletionTimestamp")),
    )


def group(raw: Mapping[str, Any]) -> GroupView:
    meta, spec, status = _section(raw, "metadata"), _section(raw, "spec"), _section(raw, "status")
    limit, defect = _size(spec.get("storageLimit"))
    defect = f"spec.storageLimit: {defect}" if defect else None
    volume = _section(spec, "persistentVolumeSpec")
    selector = None
    required = _section(volume, "nodeAffinity").get("required")
    if required is not None:
        try:
            selector = NodeSelector.model_validate(required)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            defect = f"spec.persistentVolumeSpec.nodeAffinity.required.{where} cannot be read"
    local, host = _section(volume, "local"), _section(volume, "hostPath")
    return GroupView(
        name=intern(meta["name"]),
        limit=limit,
        selector=selector,
        path=_text(local.get("path")) or _text(host.get("path")),
        status=digest(status, GROUP_STATUS),
        conditions=_conditions(status),
        defect=defect,
        deleting=bool(meta.get("deletionTimestamp")),
        volume=volume,
        claim=_section(spec, "persistentVolumeClaimSpec"),
        **_identity(meta),
    )


def node(raw: Mapping[str, Any]) -> NodeView:
    meta = _section(raw, "metadata")
    conditions = _section(raw, "status").get("conditions") or ()
    return NodeView(
        name=intern(meta["name"]),
        uid=str(meta.get("uid", "")),
        ready=any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions),
        labels={intern(key): intern(str(value)) for key, value in _section(meta, "labels").items()},
    )


def work(raw: Mapping[str, Any]) -> WorkView:
    meta, spec, status = _section(raw, "metadata"), _section(raw, "spec"), _section(raw, "status")
    owners = meta.get("ownerReferences") or ()
    disk = _section(status, "storage")
    available, used = _int(disk.get("availableBytes")), _int(disk.get("usedBytes"))
    return WorkView(
        name=intern(meta["name"]),
        entries=tuple(entry(line) for line in spec.get("localModels") or ()),
        reports=_reports(status),
        observed=_int(status.get("observedGeneration")),
        storage=None
        if available is None or used is None
        else StorageView(
            available=available,
            used=used,
            capacity=_int(disk.get("capacityBytes")),
            kept=_int(disk.get("keptFreeBytes")) or 0,
        ),
        host_path=_text(_section(status, "agent").get("hostPath")),
        owner=next((str(o.get("uid", "")) for o in owners if o.get("kind") == "Node"), None),
        deleting=bool(meta.get("deletionTimestamp")),
        **_identity(meta),
    )


def lease(raw: Mapping[str, Any]) -> LeaseView:
    return LeaseView(
        name=intern(raw["metadata"]["name"]),
        renewed=str(_section(raw, "spec").get("renewTime") or ""),
    )


def digest(status: Mapping[str, Any], fields: tuple[str, ...]) -> bytes:
    """Of the fields that we write, in any order of keys and conditions; b"" when there is none of them."""
    ours = {name: status[name] for name in fields if status.get(name) is not None}
    conditions = [c for c in status.get("conditions") or () if c.get("type") in OUR_CONDITIONS]
    if conditions:
        ours["conditions"] = sorted(conditions, key=lambda c: str(c["type"]))
    if not ours:
        return b""
    return hashlib.blake2b(orjson.dumps(ours, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def _reports(status: Mapping[str, Any]) -> Mapping[str, ReportView]:
    found = {
        intern(str(key)): ReportView(_STATES.get(state, ModelState.UNKNOWN))
        for key, state in _section(status, "modelStatus").items()
    }
    for raw in status.get("models") or ():
        key = _text(raw.get("key"))
        if key is not None:
            found[intern(key)] = ReportView(
                state=_STATES.get(raw.get("state"), ModelState.UNKNOWN),
                storage_key=_text(raw.get("storageKey")),
                reason=_text(raw.get("reason")),
                message=raw.get("message"),
                revision=_text(raw.get("revision")),
                bytes_total=_bytes(raw.get("bytesTotal")),
                bytes_done=_bytes(raw.get("bytesDone")),
                rate=_bytes(raw.get("bytesPerSecond")),
                retry_at=_text(raw.get("nextRetryTime")),
                completed=_text(raw.get("completionTime")),
            )
    return found or NOTHING


def _unheard(status: Mapping[str, Any]) -> frozenset[str]:
    """Equal sets are one object: when all agents are gone, every cache has the same thousands of names."""
    states = _section(status, "nodeStatus")
    found = frozenset(intern(name) for name, state in states.items() if state in _UNHEARD)
    return _names.setdefault(orjson.dumps(sorted(found)), found) if found else found


def _conditions(status: Mapping[str, Any]) -> tuple[Condition, ...]:
    found = []
    for raw in status.get("conditions") or ():
        if raw.get("type") in OUR_CONDITIONS:
            try:
                found.append(Condition.model_validate(raw))
            except ValidationError:
                continue
    return tuple(found)


def _identity(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "uid": str(meta.get("uid", "")),
        "resource_version": str(meta.get("resourceVersion", "")),
        "generation": _int(meta.get("generation")) or 0,
    }


def _section(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, dict) else NOTHING


def _text(value: object) -> str | None:
    return intern(value) if isinstance(value, str) and value else None


def _int(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _bytes(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= _MOST_BYTES else None


def _size(value: object) -> tuple[int, str | None]:
    """Bytes, and why not when it cannot be read."""
    try:
        return parse_quantity(value), None  # type: ignore[arg-type]  # anything else raises
    except (ValueError, TypeError) as error:
        return 0, str(error)
