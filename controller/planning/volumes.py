"""World × cache → the volumes and claims through which services reach it. Pure.

What is there stays as long as the cache does. Nothing of the expected name that belongs to somebody else is touched.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.actions import (
    CreateClaim,
    CreateVolume,
    DeleteClaim,
    DeleteVolume,
    PatchVolume,
    VolumeAction,
)
from controller.planning.trust import unproven
from controller.planning.volume_specs import (
    claim_outdated,
    new_claim,
    new_volume,
    outdated,
    updated,
)
from controller.world import World
from shared.domain.reasons import Reason
from shared.domain.serving import (
    CACHE_ANNOTATION,
    ClaimView,
    Pair,
    ServiceView,
    VolumeView,
    cache_of,
    pair,
    why_not_servable,
)
from shared.domain.views import CacheView, GroupView

Finding = tuple[Reason, str]
Step = tuple[str, tuple[VolumeAction, ...]]
"""A namespace, and what one pair there needs, in this order; steps have nothing to do with each other."""


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """`pairs`: all whose names concern the cache. `findings`: what keeps services from it, worst first."""

    steps: tuple[Step, ...] = ()
    pairs: frozenset[Pair] = frozenset()
    findings: tuple[Finding, ...] = ()


_SEVERITY = (
    Reason.ACCESS_DENIED,
    Reason.NOT_SERVABLE,
    Reason.VOLUME_NAME_CONFLICT,
    Reason.NODE_GROUP_NOT_FOUND,
    Reason.VOLUMES_PENDING,
    Reason.VOLUME_OUTDATED,
)


def plan_volumes(world: World, key: str) -> VolumePlan:
    """Also for a cache that is gone: then its volumes, which nobody owns, go too."""
    cache = world.caches.get(key)
    if cache is None:
        gone = abandoned_volumes(world, key)
        return VolumePlan(tuple((key.partition("/")[0], (action,)) for action in gone))
    if cache.deleting or not cache.guarded or not world.serving.managed:
        return VolumePlan()
    used = set(pairs_in_use(world, cache))
    pairs = used | set(_existing(world, cache))
    findings = list(_misfits(world, cache))
    steps: list[Step] = []
    for one in sorted(pairs):
        group = world.groups.get(one.group)
        reason = why_not_servable(cache, one.group, one.namespace)
        if group is None or reason is not None:
            continue  # told by `_misfits`, and by the cache's Ready condition
        if (one.namespace, one.claim) not in world.serving.claims:
            doubt = unproven(world, cache)
            if doubt is not None:
                findings.append(doubt)
                continue
        acts, found = _plan_pair(world, cache, group, one, used=one in used)
        if acts:
            steps.append((one.namespace, tuple(acts)))
        findings += found
    findings.sort(key=lambda finding: _SEVERITY.index(finding[0]))
    return VolumePlan(tuple(steps), frozenset(pairs), tuple(findings))


def abandoned_volumes(world: World, key: str) -> Iterator[DeleteVolume]:
    """What a namespace cache leaves behind: everything else is owned, and collected with its owner."""
    for name in sorted(world.serving.volumes_of.get(key, ())):
        volume = world.serving.volumes[name]
        if volume.owner is None and not volume.deleting:
            yield DeleteVolume(name, volume.uid)


def pairs_in_use(world: World, cache: CacheView) -> Iterator[Pair]:
    """By the group that a service asks for, else the cache's first; and by the claim that its pods were told to mount."""
    for service in world.serving.services(cache.key):
        group = group_of(cache, service)
        if group is not None:
            yield pair(cache, group, service.namespace)
        told = (service.claim or "").removeprefix(f"{cache.name}-")
        if told != service.claim and told in world.groups:
            yield pair(cache, told, service.namespace)


def group_of(cache: CacheView, service: ServiceView) -> str | None:
    """None when the service asks for a group that the cache is not in."""
    if service.group is None:
        return next(iter(cache.groups), None)
    return service.group if service.group in cache.groups else None


def _existing(world: World, cache: CacheView) -> Iterator[Pair]:
    for namespace, name in world.serving.claims_of.get(cache.key, ()):
        group = name.removeprefix(f"{cache.name}-")
        one = pair(cache, group, namespace)
        claim = world.serving.claims[namespace, name]
        if one.claim == name and claim.spec.get("volumeName") == one.volume:
            yield one


def _misfits(world: World, cache: CacheView) -> Iterator[Finding]:
    for group in cache.groups:
        reason = why_not_servable(cache, group)
        if reason is not None:
            yield Reason.NOT_SERVABLE, reason
            break
    for service in world.serving.services(cache.key):
        found = group_of(cache, service)
        name = f"{service.kind} {service.namespace}/{service.name}"
        if found is None:
            yield (
                Reason.NODE_GROUP_NOT_FOUND,
                f"{name} asks for node group {service.group}, in which the cache is not",
            )
        elif found not in world.groups:
            yield Reason.NODE_GROUP_NOT_FOUND, f"{name} needs node group {found}, which is missing"
        elif reason := why_not_servable(cache, found, service.namespace):
            yield Reason.NOT_SERVABLE, reason


def _plan_pair(
    world: World, cache: CacheView, group: GroupView, one: Pair, *, used: bool
) -> tuple[list[VolumeAction], list[Finding]]:
    volume = world.serving.volumes.get(one.volume)
    claim = world.serving.claims.get((one.namespace, one.claim))
    strangers = [
        what
        for what, theirs in (
            (f"claim {one.namespace}/{one.claim}", claim and _belongs_elsewhere(cache, claim)),
            (f"volume {one.volume}", volume and _is_stranger(cache, volume, claim, one)),
        )
        if theirs
    ]
    if strangers:
        message = f"{' and '.join(strangers)} belongs to somebody else"
        return [], [(Reason.VOLUME_NAME_CONFLICT, message)]
    leaving = [v for v in (volume, claim) if v is not None and (v.deleting or _former(cache, v))]
    pending = (Reason.VOLUMES_PENDING, f"claim {one.namespace}/{one.claim} is not bound yet")
    if leaving:  # its deletion will bring us back here
        return [], [pending] if used else []
    actions: list[VolumeAction] = []
    findings: list[Finding] = []
    changed = _changed(group, volume, claim)
    unused = not used and world.serving.seen  # who cannot be seen may be using it
    if changed and unused and claim is not None and volume is not None:
        return [
            DeleteClaim(one.namespace, one.claim, claim.uid),
            DeleteVolume(one.volume, volume.uid),
        ], []
    if changed:
        message = (
            f"volume {one.volume} keeps its former {' and '.join(changed)}, which Kubernetes does not let anybody change; "
            "it is replaced when no service uses it"
        )
        findings.append((Reason.VOLUME_OUTDATED, message))
    if volume is None:
        actions.append(CreateVolume(cache, one.volume, new_volume(cache, group, one)))
    elif patch := _patch(cache, group, volume, claim, one):
        actions.append(PatchVolume(one.volume, volume.resource_version, patch))
    if claim is None:
        actions.append(CreateClaim(cache, one.namespace, new_claim(cache, group, one)))
    if used and (claim is None or claim.phase != "Bound"):
        findings.append(pending)
    return actions, findings


def _changed(group: GroupView, volume: VolumeView | None, claim: ClaimView | None) -> list[str]:
    fields = outdated(group.volume, volume.spec) if volume is not None else []
    if claim is not None:
        fields += [f"claim's {name}" for name in claim_outdated(group.claim, claim.spec)]
    return fields


def _patch(
    cache: CacheView, group: GroupView, volume: VolumeView, claim: ClaimView | None, one: Pair
) -> Mapping[str, Any]:
    """Group edits that Kubernetes allows, the mark that the volume is ours, and a claim that is gone forgotten."""
    spec: dict[str, Any] = dict(updated(group.volume, volume.spec))
    stale = volume.phase in ("Released", "Failed") and (
        claim is None or volume.claim_uid != claim.uid
    )
    if stale:
        spec["claimRef"] = None
    patch: dict[str, Any] = {"spec": spec} if spec else {}
    if volume.cache is None and cache.namespace is not None:
        patch["metadata"] = {"annotations": {CACHE_ANNOTATION: cache.key}}
    return patch


def _belongs_elsewhere(cache: CacheView, found: VolumeView | ClaimView) -> bool:
    return cache_of(found) != cache.key


def _is_stranger(cache: CacheView, volume: VolumeView, claim: ClaimView | None, one: Pair) -> bool:
    """KServe's controller leaves no mark on the volume of a namespace cache: it is known by the claim that it serves."""
    if cache_of(volume) is not None or volume.owner is not None or cache.namespace is None:
        return _belongs_elsewhere(cache, volume)
    ours = claim is not None and cache_of(claim) == cache.key
    return not (ours and volume.claim == (one.namespace, one.claim))


def _former(cache: CacheView, found: VolumeView | ClaimView) -> bool:
    """Of an earlier cache of this name, whose deletion takes it along."""
    return found.owner is not None and found.owner.uid != cache.uid


def servable(world: World, cache: CacheView) -> tuple[bool, Reason, str] | None:
    """What the Servable condition says; None where nobody asks and nothing would keep services away."""
    plan = plan_volumes(world, cache.key)
    refused = world.serving.refused.get(cache.key)
    if refused is not None and plan.steps:
        return False, Reason.VOLUME_REFUSED, refused
    if plan.findings:
        reason = plan.findings[0][0]
        told = list(dict.fromkeys(text for found, text in plan.findings if found is reason))
        more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        return reason is Reason.VOLUME_OUTDATED, reason, told[0] + more
    used = set(pairs_in_use(world, cache)) if plan.pairs else set()
    if not used:
        return None
    return True, Reason.AVAILABLE, f"{len(used)} claims bound"
