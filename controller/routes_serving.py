"""Changes of services, volumes, claims and the configuration → the caches to look at again. The only writer of `World.serving`."""

from dataclasses import replace

from controller.routes import Dirty, is_older
from controller.serving import Place
from controller.world import World
from shared.domain.reasons import Reason
from shared.domain.serving import ClaimView, ServiceView, VolumeView, cache_of


def service_changed(
    world: World, version: str, old: ServiceView | None, new: ServiceView | None
) -> Dirty:
    world.serving.put_service(version, new, old)
    caches = {view.cache for view in (old, new) if view is not None and view.cache}
    return Dirty(caches=caches, volumes=set(caches)) if old != new else Dirty()


def services_known(world: World, kind: str) -> Dirty:
    """The first list of a kind is in: until then statuses keep what they said of services and volumes, true or not."""
    if kind in world.serving.known:
        return Dirty()
    world.serving.known.add(kind)
    return Dirty(
        caches=set(world.caches),
        volumes=set(world.serving.claims_of),  # what nobody uses may now be replaced
    )


def volume_changed(world: World, name: str, new: VolumeView | None) -> Dirty:
    old = world.serving.volumes.get(name)
    if old is not None and new is not None and is_older(new, old):
        return Dirty()
    world.serving.put_volume(name, new)
    return _concerned(world, ("", name), old, new) if _differ(old, new) else Dirty()


def claim_changed(world: World, place: Place, new: ClaimView | None) -> Dirty:
    old = world.serving.claims.get(place)
    if old is not None and new is not None and is_older(new, old):
        return Dirty()
    world.serving.put_claim(place, new)
    return _concerned(world, place, old, new) if _differ(old, new) else Dirty()


def configuration_changed(
    world: World, managed: bool | None, problem: tuple[Reason, str] | None
) -> Dirty:
    """Volumes became ours to make, or no longer are; or something is wrong with the configuration."""
    dirty = Dirty()
    if world.problem != problem:
        world.problem = problem
        dirty.groups.update(world.groups)
    if world.serving.managed is not managed:
        world.serving.managed = managed
        serving = world.serving
        keys = serving.users.keys() | serving.volumes_of.keys() | serving.claims_of.keys()
        dirty.volumes.update(keys)
        dirty.caches.update(world.caches)  # what was said before may hold for none of these
    return dirty


def refusal_changed(world: World, key: str, why: str | None) -> Dirty:
    before = world.serving.refused.pop(key, None)
    if why is not None:
        world.serving.refused[key] = why
    return Dirty(caches={key}) if before != why else Dirty()


def _differ(old: VolumeView | ClaimView | None, new: VolumeView | ClaimView | None) -> bool:
    """Others write there too, and most of it is nothing to us."""
    if old is None or new is None:
        return old is not new
    return replace(old, resource_version=new.resource_version) != new


def _concerned(
    world: World,
    place: Place,
    old: VolumeView | ClaimView | None,
    new: VolumeView | ClaimView | None,
) -> Dirty:
    keys = set(world.serving.awaited.get(place, ()))
    for view in (old, new):
        key = cache_of(view) if view is not None else None
        if key is not None:
            keys.add(key)
    return Dirty(caches=set(keys), volumes=keys)
