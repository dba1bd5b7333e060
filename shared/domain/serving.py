"""How services reach cached models: who uses which cache, and the volumes that show them a node's folder. Pure.

Names, owners, labels and annotations are KServe's; its webhooks rely on them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Any, Final

from shared.domain.storage_key import status_key
from shared.domain.views import NOTHING, CacheView

CACHE_LABEL: Final = "internal.serving.kserve.io/localmodel"
CACHE_NAMESPACE_LABEL: Final = "internal.serving.kserve.io/localmodel-namespace"
CLAIM_ANNOTATION: Final = "internal.serving.kserve.io/localmodel-pvc-name"
GROUP_ANNOTATION: Final = "serving.kserve.io/nodegroup"
# On volumes: `name` or `namespace/name` of their cache. A PersistentVolume cannot be owned by a namespaced object.
CACHE_ANNOTATION: Final = "localmodel.kserve.io/cache"

# Kubernetes' limits: a label's value, and the names of volumes and claims.
MAX_LABEL: Final = 63
MAX_NAME: Final = 253
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class ServiceView:
    """An InferenceService or LLMInferenceService. `cache`: key of the cache that its labels name, "" for none."""

    kind: str
    namespace: str
    name: str
    cache: str
    group: str | None = None
    claim: str | None = None
    """Name of the PersistentVolumeClaim that its pods mount."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The controlling owner of a volume or claim."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class VolumeView:
    """A PersistentVolume. `claim`: namespace and name of the claim that it is bound to, or was (phase Released)."""

    name: str
    uid: str
    resource_version: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    phase: str = ""
    owner: Owner | None = None
    cache: str | None = None
    claim: tuple[str, str] | None = None
    claim_uid: str | None = None
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A PersistentVolumeClaim."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    phase: str = ""
    owner: Owner | None = None
    deleting: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """A claim and the volume behind it, for the services of one namespace through one group."""

    namespace: str
    group: str
    claim: str
    volume: str


def pair(cache: CacheView, group: str, namespace: str) -> Pair:
    claim = f"{cache.name}-{group}"
    return Pair(namespace, group, claim, f"{claim}-{namespace}")


def why_not_servable(cache: CacheView, group: str, namespace: str | None = None) -> str | None:
    """Names are composed, and Kubernetes bounds them: why no service can use the cache through the group."""
    if not _LABEL.fullmatch(cache.name):
        return f"its name does not fit into a label ({MAX_LABEL} characters), by which services refer to it"
    names = pair(cache, group, cache.namespace or namespace or "")
    if len(names.claim) > MAX_NAME:
        return (
            f"the name of its claim through group {group} would have {len(names.claim)} characters"
        )
    if (cache.namespace or namespace) and len(names.volume) > MAX_NAME:
        return f"the name of its volume through group {group} would have {len(names.volume)} characters"
    return None


def service(raw: Mapping[str, Any], kind: str) -> ServiceView:
    meta = raw["metadata"]
    labels, notes = meta.get("labels") or {}, meta.get("annotations") or {}
    namespace = intern(str(meta["namespace"]))
    cache, scope = labels.get(CACHE_LABEL) or "", labels.get(CACHE_NAMESPACE_LABEL)
    if scope:  # a namespace cache serves its own namespace only
        cache = status_key(cache, namespace) if cache and scope == namespace else ""
    return ServiceView(
        kind=kind,
        namespace=namespace,
        name=str(meta["name"]),
        cache=intern(cache),
        group=notes.get(GROUP_ANNOTATION),
        claim=notes.get(CLAIM_ANNOTATION) or None,
    )


def volume(raw: Mapping[str, Any]) -> VolumeView:
    """Other people's volumes keep their names only: there may be thousands."""
    meta, spec = raw["metadata"], raw.get("spec") or {}
    reference = spec.get("claimRef") or {}
    owner = _owner(meta)
    cache = (meta.get("annotations") or {}).get(CACHE_ANNOTATION) or None
    served = "local" in spec or "hostPath" in spec
    return VolumeView(
        name=meta["name"],
        uid=str(meta.get("uid", "")),
        resource_version=str(meta.get("resourceVersion", "")),
        spec=spec if served else NOTHING,
        phase=str((raw.get("status") or {}).get("phase") or ""),
        owner=owner,
        cache=cache,
        claim=(str(reference.get("namespace")), str(reference.get("name"))) if reference else None,
        claim_uid=reference.get("uid"),
        deleting=bool(meta.get("deletionTimestamp")),
    )


def claim(raw: Mapping[str, Any]) -> ClaimView:
    meta = raw["metadata"]
    owner = _owner(meta)
    return ClaimView(
        namespace=intern(str(meta["namespace"])),
        name=meta["name"],
        uid=str(meta.get("uid", "")),
        resource_version=str(meta.get("resourceVersion", "")),
        spec=raw.get("spec") or NOTHING if owner else NOTHING,
        phase=str((raw.get("status") or {}).get("phase") or ""),
        owner=owner,
        deleting=bool(meta.get("deletionTimestamp")),
    )


def cache_of(view: VolumeView | ClaimView) -> str | None:
    """Key of the cache that a volume or claim says it belongs to."""
    if isinstance(view, VolumeView) and view.cache is not None:
        return view.cache
    match view.owner:
        case Owner(kind="LocalModelCache", name=name):
            return name
        case Owner(kind="LocalModelNamespaceCache", name=name) if isinstance(view, ClaimView):
            return status_key(name, view.namespace)
        case _:
            return None


def _owner(meta: Mapping[str, Any]) -> Owner | None:
    return next(
        (
            Owner(str(o.get("kind")), str(o.get("name")), str(o.get("uid")))
            for o in _references(meta)
            if o.get("controller")
        ),
        None,
    )


def _references(meta: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from meta.get("ownerReferences") or ()
