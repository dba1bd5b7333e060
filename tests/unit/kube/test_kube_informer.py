"""What the informer tells when the server says on the wire what a real one says only on bad days."""

import pytest
from prometheus_client import CollectorRegistry

from tests.unit.kube.virtual_time import now
from tests.unit.kube.watching import Watch, blue, red
from tests.unit.kube.wire import (
    ApiServer,
    Step,
    Stream,
    bookmark,
    event,
    listing,
    refusal,
    status,
    thing,
)


async def test_what_is_listed_and_what_changes_later_is_told_in_order(
    server: ApiServer, watch: Watch
) -> None:
    changed = (
        event("ADDED", red("b", 11)),
        event("MODIFIED", blue("a", 12)),
        event("DELETED", red("b", 13)),
    )
    server.say(listing(red("a", 5), version=10), Stream(changed, "silence"))
    async with watch() as watched:
        assert await watched.told(4) == [
            ("a", None, "red"),
            ("b", None, "red"),
            ("a", "red", "blue"),
            ("b", "red", None),
        ]
        assert watched.holds() == {"a": "blue"}
    assert server.watches == ["10"]


async def test_a_list_in_pages_counts_only_when_it_is_whole(
    server: ApiServer, watch: Watch
) -> None:
    server.say(
        listing(red("a", 1), version=10, more="page-2"),
        refusal(410, "Expired"),
        listing(red("a", 1), version=20, more="page-2"),
        listing(red("b", 2), version=20),
    )
    async with watch() as watched:
        await server.until(2)
        assert not watched.informer.synced
        await watched.informer.wait_synced()
        assert watched.holds() == {"a": "red", "b": "red"}
        await server.until(5)
    tokens = [asked.query.get("continue") for asked in server.lists]
    assert tokens == [None, "page-2", None, "page-2"]
    assert server.watches == ["20"]


async def test_a_bookmark_is_where_the_next_watch_begins(server: ApiServer, watch: Watch) -> None:
    server.say(listing(red("a", 1), version=10), Stream((bookmark(500),)))
    async with watch():
        await server.until(3)
    assert server.watches == ["10", "500"]
    assert len(server.lists) == 1
    assert server.asked[1].query["allowWatchBookmarks"] == "true"


@pytest.mark.parametrize(
    "expired",
    [refusal(410, "Expired"), Stream((event("ERROR", status(410, "Expired")),))],
    ids=["as status", "in the stream"],
)
async def test_after_an_expired_version_what_was_deleted_meanwhile_is_told(
    server: ApiServer, watch: Watch, expired: Step
) -> None:
    server.say(
        listing(red("stays", 1), red("goes", 2), red("turns", 3), version=10),
        expired,
        listing(red("stays", 1), blue("turns", 15), red("comes", 16), version=20),
    )
    async with watch() as watched:
        await watched.told(3)
        assert await watched.told(3) == [
            ("goes", "red", None),
            ("turns", "red", "blue"),
            ("comes", None, "red"),
        ]
        await server.until(4)
        assert watched.holds() == {"stays": "red", "turns": "blue", "comes": "red"}
        assert watched.changes.empty()
    assert server.watches == ["10", "20"]


async def test_a_watch_cut_within_a_line_goes_on_where_it_was(
    server: ApiServer, watch: Watch
) -> None:
    half = event("ADDED", red("c", 13))[:25]
    server.say(
        listing(version=10),
        Stream((event("ADDED", red("a", 11)), event("ADDED", red("b", 12)), half), "cut"),
        Stream((event("ADDED", red("c", 13)),), "silence"),
    )
    async with watch() as watched:
        assert [name for name, _, _ in await watched.told(3)] == ["a", "b", "c"]
    assert server.watches == ["10", "12"]
    assert len(server.lists) == 1


async def test_an_object_that_cannot_be_read_is_left_out_and_counted(
    server: ApiServer, watch: Watch, registry: CollectorRegistry
) -> None:
    server.say(
        listing(thing("odd", 1), red("a", 2), version=10),
        Stream((event("MODIFIED", thing("a", 11)), event("MODIFIED", red("odd", 12))), "silence"),
    )
    async with watch() as watched:
        assert await watched.told(3) == [
            ("a", None, "red"),
            ("a", "red", None),
            ("odd", None, "red"),
        ]
    assert registry.get_sample_value("informer_refused_objects_total", {"resource": "things"}) == 2


async def test_a_required_kind_that_is_suddenly_unknown_is_not_taken_for_deleted_objects(
    server: ApiServer, watch: Watch
) -> None:
    server.say(
        listing(red("a", 1), version=10),
        refusal(404, "NotFound"),
        refusal(404, "NotFound"),
        listing(red("a", 1), version=20),
    )
    async with watch() as watched:
        await watched.told(1)
        await server.until(5)
        assert watched.holds() == {"a": "red"}
        assert watched.changes.empty()


async def test_an_optional_kind_may_be_absent_and_is_found_when_it_is_installed(
    server: ApiServer, watch: Watch
) -> None:
    server.say(refusal(404, "NotFound"), listing(red("a", 1), version=10))
    async with watch(optional=True) as watched:
        started = now()
        await watched.informer.wait_synced()
        assert not watched.informer.installed
        assert await watched.told(1) == [("a", None, "red")]
        assert watched.informer.installed
        assert 10 < now() - started <= 31


async def test_an_optional_kind_that_is_unknown_for_a_moment_is_not_taken_for_deleted_objects(
    server: ApiServer, watch: Watch
) -> None:
    server.say(
        listing(red("a", 1), version=10),
        Stream(then="cut"),
        refusal(404, "NotFound"),
        refusal(404, "NotFound"),
        listing(red("a", 1), red("b", 15), version=20),
    )
    async with watch(optional=True, recheck_seconds=30) as watched:
        await watched.told(1)
        missed = now()
        assert await watched.told(1) == [("b", None, "red")]
        assert now() - missed < 10  # asked again soon: what happened meanwhile is wanted
        assert watched.informer.installed


async def test_an_optional_kind_that_stays_unknown_is_absent_after_a_while_as_often_as_it_goes(
    server: ApiServer, watch: Watch
) -> None:
    server.otherwise = lambda _: refusal(404, "NotFound")
    async with watch(optional=True, recheck_seconds=30) as watched:
        for version in (10, 20):
            server.say(listing(red("a", 1), version=version), Stream(then="cut"))
            assert await watched.told(1) == [("a", None, "red")]
            assert watched.informer.installed
            missed = now()
            assert await watched.told(1) == [("a", "red", None)]
            assert 30 <= now() - missed < 100
            assert not watched.informer.installed
