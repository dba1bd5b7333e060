"""The part of the World that serves: services, volumes, claims, and whether volumes are ours to manage.

Read-only for planners; only `controller.routes_serving` changes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from shared.domain.serving import ClaimView, Pair, ServiceView, VolumeView, cache_of

K = TypeVar("K")
V = TypeVar("V")

INFERENCE_SERVICE = "InferenceService"
LLM_INFERENCE_SERVICE = "LLMInferenceService"

Place = tuple[str, str]
"""Namespace ("" for volumes) and name."""


@dataclass(slots=True)
class Serving:
    managed: bool | None = None
    """Whether volumes are ours to make; None while the configuration is not known."""
    known: set[str] = field(default_factory=set)
    """Kinds of services whose list is in, or that the API server does not have."""
    users: dict[str, dict[tuple[str, str, str], ServiceView]] = field(default_factory=dict)
    """Services by cache, each under (API version, namespace, name): two versions may show the same one."""
    volumes: dict[str, VolumeView] = field(default_factory=dict)
    claims: dict[Place, ClaimView] = field(default_factory=dict)
    volumes_of: dict[str, set[str]] = field(default_factory=dict)
    claims_of: dict[str, set[Place]] = field(default_factory=dict)
    """What says of itself that it belongs to a cache."""
    awaited: dict[Place, set[str]] = field(default_factory=dict)
    """Caches whose volumes or claims have these names, whoever holds them."""
    refused: dict[str, str] = field(default_factory=dict)
    """What the API server said against the volumes of a cache."""
    _awaiting: dict[str, frozenset[Place]] = field(default_factory=dict)

    @property
    def seen(self) -> bool:
        """Whether all is known that decides about volumes."""
        kinds = {INFERENCE_SERVICE, LLM_INFERENCE_SERVICE}
        return self.managed is not None and kinds <= self.known

    def services(self, cache: str) -> list[ServiceView]:
        """Sorted by kind, namespace and name."""
        found = {(s.kind, s.namespace, s.name): s for s in self.users.get(cache, {}).values()}
        return [found[key] for key in sorted(found)]

    def put_service(self, version: str, view: ServiceView | None, old: ServiceView | None) -> None:
        if old is not None:
            users = self.users.get(old.cache, {})
            users.pop((version, old.namespace, old.name), None)
            if not users:
                self.users.pop(old.cache, None)
        if view is not None and view.cache:
            key = (version, view.namespace, view.name)
            self.users.setdefault(view.cache, {})[key] = view

    def put_volume(self, name: str, new: VolumeView | None) -> None:
        old = self.volumes.pop(name, None)
        if new is not None:
            self.volumes[name] = new
        _move(self.volumes_of, name, old, new)

    def put_claim(self, place: Place, new: ClaimView | None) -> None:
        old = self.claims.pop(place, None)
        if new is not None:
            self.claims[place] = new
        _move(self.claims_of, place, old, new)

    def await_pairs(self, cache: str, pairs: Iterable[Pair]) -> None:
        """From now on changes of these names concern the cache."""
        places = frozenset(
            place for pair in pairs for place in (("", pair.volume), (pair.namespace, pair.claim))
        )
        before = self._awaiting.pop(cache, frozenset())
        if places:
            self._awaiting[cache] = places
        for place in before - places:
            _discard(self.awaited, place, cache)
        for place in places - before:
            self.awaited.setdefault(place, set()).add(cache)


def _move(
    index: dict[str, set[V]],
    value: V,
    old: VolumeView | ClaimView | None,
    new: VolumeView | ClaimView | None,
) -> None:
    before = cache_of(old) if old is not None else None
    after = cache_of(new) if new is not None else None
    if before is not None and before != after:
        _discard(index, before, value)
    if after is not None:
        index.setdefault(after, set()).add(value)


def _discard(index: dict[K, set[V]], key: K, value: V) -> None:
    values = index.get(key)
    if values is not None:
        values.discard(value)
        if not values:
            del index[key]
