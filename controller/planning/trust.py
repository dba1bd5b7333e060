"""Whether a cache has shown that its credentials open what lies in a folder that it shares with other caches. Pure."""

from controller.world import World
from shared.api.node import ModelState
from shared.domain.reasons import Reason
from shared.domain.views import CacheView


def unproven(world: World, cache: CacheView) -> tuple[Reason, str] | None:
    """Bytes that others' credentials brought are nobody else's before the source was asked with this cache's own."""
    sharers = (world.caches[key] for key in world.sharing.get(cache.storage_key, ()))
    if all(_credentials(other) == _credentials(cache) for other in sharers):
        return None
    works = (world.works.get(node) for node in world.expected(cache))
    reports = [
        report for work in works if work and (report := work.reports.get(cache.key)) is not None
    ]
    if any(report.state is ModelState.DOWNLOADED for report in reports):
        return None
    if any(report.reason == Reason.ACCESS_DENIED for report in reports):
        return Reason.ACCESS_DENIED, "no claim is made while the source refuses its credentials"
    return Reason.VOLUMES_PENDING, "other caches share its folder: its credentials are tried first"


def _credentials(cache: CacheView) -> tuple[object, ...]:
    account, storage = cache.wire.get("serviceAccountName"), cache.wire.get("storage")
    return (account, storage, cache.namespace) if account or storage else ()
