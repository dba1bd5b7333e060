from datetime import timedelta

import pytest

from agent.planning.desired import Access
from agent.planning.sync import (
    Adopt,
    Cancel,
    Cause,
    Decision,
    Evict,
    Fetch,
    Verify,
    Wait,
    next_due,
    sync,
)
from agent.planning.world import Disk, Limits, Running, Work, World
from shared.domain.storage_key import storage_key
from tests.unit.agent.builders import (
    KEY,
    NOW,
    after,
    disk,
    failure,
    fetching,
    line,
    published,
    uris,
    wanted,
    world,
)

LIMITS = Limits(parallel=2)
NARROW = line(allow=["*.json"])


def decided(world: World, limits: Limits = LIMITS) -> list[Decision]:
    return list(sync(world, limits))


def test_a_missing_tree_is_fetched() -> None:
    assert decided(world(line())) == [Fetch(wanted(), Cause.MISSING)]


def test_a_published_tree_is_left_alone() -> None:
    assert decided(world(line(), disk=disk(published()))) == []


def test_without_a_work_list_everything_stays() -> None:
    nothing_known = world(disk=disk(published(), checked=False), known=False)
    assert decided(nothing_known) == []
    assert next_due(nothing_known, LIMITS) is None


def test_an_empty_work_list_evicts_what_is_there() -> None:
    assert decided(world(disk=disk(published()))) == [Evict(KEY)]


def test_unfinished_files_of_a_tree_that_is_not_wanted_are_evicted() -> None:
    assert decided(world(disk=Disk(staged=frozenset({KEY})))) == [Evict(KEY)]


def test_a_foreign_folder_that_nobody_wants_is_not_touched() -> None:
    assert decided(world(disk=Disk(foreign=frozenset({KEY, "notes"})))) == []


def test_a_foreign_folder_at_a_wanted_key_is_compared_first() -> None:
    assert decided(world(line(), disk=Disk(foreign=frozenset({KEY})))) == [Adopt(wanted())]


@pytest.mark.parametrize(
    ("entry", "more", "cause"),
    [
        (line(allow=["*.json"]), {}, Cause.SELECTION),
        (line(revision="r2"), {}, Cause.REVISION),
        (line(revision="r1"), {}, None),
        (line(revision="r2"), {"settled": {KEY: "r2"}}, None),
        (line(account="new"), {"granted": {KEY: frozenset({Access()})}}, Cause.ACCESS),
    ],
)
def test_a_published_tree_is_fetched_again_when_it_no_longer_answers_the_work_list(
    entry: object, more: dict[str, object], cause: Cause | None
) -> None:
    seen = world(entry, disk=disk(published()), **more)  # type: ignore[arg-type]
    assert [d.cause for d in decided(seen) if isinstance(d, Fetch)] == ([cause] if cause else [])


def test_damage_is_repaired() -> None:
    seen = world(line(), disk=disk(published(), damaged={KEY: ("a.bin",)}))
    assert decided(seen) == [Fetch(wanted(), Cause.DAMAGED)]


def test_a_copy_that_runs_is_left_running() -> None:
    assert decided(world(line(), running={KEY: fetching()})) == []


@pytest.mark.parametrize("work", [Work.FETCH, Work.VERIFY])
def test_what_runs_for_an_unwanted_tree_is_stopped_first(work: Work) -> None:
    assert decided(world(disk=disk(published()), running={KEY: Running(work)})) == [Cancel(KEY)]


def test_an_eviction_that_runs_is_left_running_even_when_the_tree_is_wanted_again() -> None:
    running = {KEY: Running(Work.EVICT)}
    assert decided(world(disk=disk(published()), running=running)) == []
    assert decided(world(line(), disk=disk(published()), running=running)) == []


def test_a_changed_selection_stops_the_copy_in_flight() -> None:
    assert decided(world(NARROW, running={KEY: fetching()})) == [Cancel(KEY)]


@pytest.mark.parametrize(
    ("resolved", "pinned", "stops"),
    [("r1", True, False), ("r2", True, True), ("r2", False, False), (None, True, False)],
)
def test_a_settled_revision_stops_only_a_copy_that_fetches_another_one(
    resolved: str | None, pinned: bool, stops: bool
) -> None:
    running = {KEY: fetching(revision=resolved, pinned=pinned)}
    seen = world(line(revision="r1"), running=running)
    assert decided(seen) == ([Cancel(KEY)] if stops else [])


def test_a_failed_copy_waits_until_it_is_due() -> None:
    waits = world(line(), failures={KEY: failure(next_try=after(30))})
    assert decided(waits) == [Wait(KEY, after(30))]
    assert next_due(waits, LIMITS) == after(30)
    due = world(line(), failures={KEY: failure(next_try=NOW)})
    assert decided(due) == [Fetch(wanted(), Cause.MISSING)]


@pytest.mark.parametrize(
    "changed",
    [line(allow=["*.bin"]), line(account="other"), line(retry="now"), line(revision="r7")],
)
def test_a_failed_copy_is_tried_at_once_when_its_entry_changes(changed: object) -> None:
    seen = world(changed, failures={KEY: failure(next_try=after(500), stalled=True)})  # type: ignore[arg-type]
    assert [type(decision) for decision in decided(seen)] == [Fetch]


def test_a_retry_time_beyond_all_waits_does_not_count() -> None:
    seen = world(line(), failures={KEY: failure(next_try=NOW + timedelta(days=30))})
    assert decided(seen) == [Fetch(wanted(), Cause.MISSING)]


def test_no_more_copies_run_than_allowed_and_those_that_failed_wait_behind() -> None:
    lines = [line(f"m{number}", uri) for number, uri in enumerate(uris(4))]
    first = storage_key("s3://models/m0")
    seen = world(
        *lines,
        running={KEY: fetching()},
        failures={
            first: failure(next_try=NOW, attempts=3, fingerprint=wanted(lines[0]).fingerprint)
        },
    )
    done = decided(seen)
    assert [d for d in done if isinstance(d, Cancel)] == [Cancel(KEY)]
    assert [d.wanted.uri for d in done if isinstance(d, Fetch)] == ["s3://models/m1"]
    assert {d.storage_key for d in done if isinstance(d, Wait)} == {
        storage_key(uri) for uri in ["s3://models/m0", "s3://models/m2", "s3://models/m3"]
    }


def test_repairs_come_before_new_copies() -> None:
    seen = world(
        line("a", "s3://models/a"),
        line("b", "s3://models/b"),
        line(),
        disk=disk(published(), damaged={KEY: ("x",)}),
    )
    done = decided(seen, Limits(parallel=1))
    assert [d.wanted.storage_key for d in done if isinstance(d, Fetch)] == [KEY]


def test_trees_are_looked_at_in_turn_when_their_look_is_old() -> None:
    old, older, fresh = (published(uri) for uri in uris(3))
    seen = Disk(
        published={tree.storage_key: tree for tree in (old, older, fresh)},
        checked={
            old.storage_key: NOW - timedelta(seconds=61),
            older.storage_key: NOW - timedelta(seconds=90),
            fresh.storage_key: NOW - timedelta(seconds=10),
        },
    )
    lines = [line(f"m{number}", uri) for number, uri in enumerate(uris(3))]
    assert decided(world(*lines, disk=seen)) == [Verify(older.storage_key)]
    assert next_due(world(*lines, disk=seen), LIMITS) == after(50)


def test_an_eviction_that_failed_waits() -> None:
    stuck = failure(next_try=after(9))
    stuck = type(stuck)(stuck.reason, "busy", False, 1, NOW, after(9), None)
    assert decided(world(disk=disk(published()), failures={KEY: stuck})) == [Wait(KEY, after(9))]


def test_a_refused_access_does_not_disturb_the_others() -> None:
    mine, theirs = line("mine"), line("theirs", namespace="team", account="poor")
    refused = {
        Access("poor", namespace="team"): failure(
            next_try=after(9), fingerprint=wanted(mine, theirs).fingerprint
        )
    }
    seen = world(
        mine,
        theirs,
        disk=disk(published()),
        granted={KEY: frozenset({Access()})},
        refusals={KEY: refused},
    )
    assert decided(seen) == []
    assert next_due(seen, LIMITS) == after(9)
