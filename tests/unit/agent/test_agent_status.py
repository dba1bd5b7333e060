from datetime import datetime

import pytest

from agent.planning.desired import Access, read_work_list
from agent.planning.difference import Change, change
from agent.planning.status import (
    CopyView,
    Scene,
    build_status,
    bytes_on_disk,
    expects_copies,
    still_evicting,
)
from agent.planning.world import Disk, Limits, Running, Work, World
from shared.api.node import AgentInfo, LocalModelInfo, ModelReport, ModelState, NodeStorage
from shared.domain.reasons import Reason
from tests.unit.agent.builders import (
    KEY,
    NOW,
    after,
    disk,
    failure,
    fetching,
    line,
    published,
    wanted,
    world,
)

AGENT = AgentInfo(version="1.2.3", start_time=NOW, host_path="/models")
GIB = 1 << 30


def scene(*lines: LocalModelInfo, seen: World | None = None, **more: object) -> Scene:
    values: dict[str, object] = {"generation": 7, "limits": Limits(), "agent": AGENT, **more}
    return Scene(
        entries=read_work_list(lines),
        world=seen or world(*lines),
        **values,  # type: ignore[arg-type]  # the caller names Scene's own fields
    )


def report(*lines: LocalModelInfo, seen: World | None = None, **more: object) -> ModelReport:
    (found,) = build_status(scene(*lines, seen=seen, **more)).models or ()
    return found


def test_every_copy_stands_in_both_lists_at_the_generation_of_the_work_list() -> None:
    status = build_status(scene(line("b"), line("a", "s3://x/y", namespace="team")))
    assert status.observed_generation == 7
    assert status.model_status == {
        "b": ModelState.DOWNLOAD_PENDING,
        "team/a": ModelState.DOWNLOAD_PENDING,
    }
    assert [model.key for model in status.models or ()] == ["b", "team/a"]


def test_a_published_copy_says_what_is_there_and_how_it_was_verified() -> None:
    found = report(line(), seen=world(line(), disk=disk(published(size=3 * GIB))))
    assert (found.state, found.reason) == (ModelState.DOWNLOADED, Reason.PUBLISHED)
    assert (found.bytes_total, found.bytes_done) == (3 * GIB, 3 * GIB)
    assert (found.revision, found.verified_by) == ("r1", "sha256")
    assert found.completion_time == published().published_at
    assert found.message == "2 files, 3.0 GiB"


def test_a_model_larger_than_declared_says_so() -> None:
    entry = line(size="1Gi")
    found = report(entry, seen=world(entry, disk=disk(published(size=3 * GIB))))
    assert found.state is ModelState.DOWNLOADED
    assert found.message == "3.0 GiB, more than the declared 1.0 GiB"


@pytest.mark.parametrize(
    "phase", [Reason.RESOLVING, Reason.DOWNLOADING, Reason.VERIFYING, Reason.UNPACKING]
)
def test_a_running_copy_shows_its_phase_and_its_figures(phase: Reason) -> None:
    view = CopyView(phase, total=100, done=40, rate=5, revision="r9", started=after(-30))
    seen = world(
        line(), running={KEY: fetching()}, failures={KEY: failure(next_try=NOW, attempts=2)}
    )
    found = report(line(), seen=seen, copies={KEY: view})
    assert (found.state, found.reason) == (ModelState.DOWNLOADING, phase)
    assert (found.bytes_total, found.bytes_done, found.bytes_per_second) == (100, 40, 5)
    assert (found.attempts, found.revision, found.start_time) == (3, "r9", after(-30))


def test_a_repair_names_what_is_damaged() -> None:
    broken = disk(published(), damaged={KEY: ("a.bin", "b.bin", "c.bin", "d.bin")})
    seen = world(line(), disk=broken, running={KEY: fetching()})
    found = report(line(), seen=seen, copies={KEY: CopyView(Reason.DOWNLOADING)})
    assert (found.state, found.reason) == (ModelState.DOWNLOADING, Reason.REPAIRING)
    assert found.message == "repairs 'a.bin', 'b.bin', 'c.bin' and 1 more"


def test_a_failed_copy_says_why_how_often_and_when_it_goes_on() -> None:
    failed = failure(next_try=after(60), attempts=4, reason=Reason.ACCESS_DENIED, message="no")
    seen = world(line(), failures={KEY: failed})
    view = CopyView(Reason.DOWNLOADING, total=100, done=40)
    found = report(line(), seen=seen, copies={KEY: view})
    assert (found.state, found.reason, found.message) == (
        ModelState.DOWNLOAD_ERROR,
        Reason.ACCESS_DENIED,
        "no",
    )
    assert (found.attempts, found.next_retry_time, found.bytes_done) == (4, after(60), 40)


def test_a_failure_of_an_earlier_entry_is_not_shown_for_a_changed_one() -> None:
    changed = line(account="right")
    found = report(changed, seen=world(changed, failures={KEY: failure(next_try=after(60))}))
    assert (found.state, found.reason) == (ModelState.DOWNLOAD_PENDING, Reason.QUEUED)


def test_a_refused_access_shows_only_at_the_entry_that_uses_it() -> None:
    lines = (line("mine"), line("theirs", namespace="team", account="poor"))
    refused = failure(next_try=after(60), reason=Reason.ACCESS_DENIED)
    seen = world(
        *lines,
        disk=disk(published()),
        granted={KEY: frozenset({Access()})},
        refusals={KEY: {Access("poor", namespace="team"): refused}},
    )
    assert build_status(scene(*lines, seen=seen)).model_status == {
        "mine": ModelState.DOWNLOADED,
        "team/theirs": ModelState.DOWNLOAD_ERROR,
    }


def test_an_unusable_disk_is_a_condition_and_leaves_copies_pending() -> None:
    status = build_status(scene(line(), storage_problem="/mnt/models is mounted read-only"))
    (condition,) = status.conditions or ()
    assert (condition.type, condition.status, condition.reason) == (
        "StorageReady",
        "False",
        Reason.STORAGE_NOT_READY,
    )
    assert condition.message == "/mnt/models is mounted read-only"
    assert status.model_status == {"llama": ModelState.DOWNLOAD_PENDING}


def test_copies_on_a_disk_that_is_away_stay_expected_by_what_the_status_says_of_it() -> None:
    there = build_status(scene(line(), seen=world(line(), disk=disk(published()))))
    assert expects_copies(there)
    away = build_status(
        scene(line(), seen=world(line(), copies_expected=True), storage_problem="not mounted")
    )
    (condition,) = away.conditions or ()
    assert condition.reason == Reason.COPIES_UNREACHABLE
    assert away.model_status == {"llama": ModelState.DOWNLOAD_PENDING}
    assert expects_copies(away)
    never = build_status(scene(line(), storage_problem="not writable"))
    assert not expects_copies(never)
    assert not expects_copies(build_status(scene(line())))


def test_a_condition_keeps_its_time_until_it_turns() -> None:
    first = build_status(scene(line()))
    later = world(line())
    later = World(now=after(600), desired=later.desired)
    second = build_status(scene(line(), seen=later, conditions=first.conditions))
    assert first.conditions == second.conditions


def test_a_removed_copy_stays_listed_until_its_bytes_are_gone() -> None:
    there = world(disk=disk(published()), running={KEY: Running(Work.EVICT)})
    listed = still_evicting({"llama": KEY}, (), there)
    assert listed == {"llama": KEY}
    found = report(seen=there, evicting=listed)
    assert (found.key, found.state, found.reason) == ("llama", ModelState.UNKNOWN, Reason.EVICTING)
    assert still_evicting({"llama": KEY}, (), world()) == {}


def test_a_removed_copy_says_its_bytes_until_they_are_gone() -> None:
    removing = {KEY: Running(Work.EVICT)}
    there = world(disk=disk(published(size=3 * GIB)), running=removing)
    hidden = world(running=removing)  # renamed away first, then deleted file by file
    said: dict[str, int] = {}
    for seen in (there, hidden, hidden):
        status = build_status(scene(seen=seen, evicting={"llama": KEY}, on_disk=said))
        (found,) = status.models or ()
        assert (found.reason, found.bytes_total) == (Reason.EVICTING, 3 * GIB)
        said = dict(bytes_on_disk(status))


def test_of_an_unfinished_copy_what_was_fetched_is_being_removed() -> None:
    view = CopyView(Reason.DOWNLOADING, total=9 * GIB, done=2 * GIB)
    before = build_status(
        scene(line(), seen=world(line(), running={KEY: fetching()}), copies={KEY: view})
    )
    staged = world(disk=Disk(staged=frozenset({KEY})))
    found = report(seen=staged, evicting={"llama": KEY}, on_disk=bytes_on_disk(before))
    assert found.bytes_total == 2 * GIB


def test_a_removed_copy_whose_bytes_another_one_still_wants_is_no_longer_listed() -> None:
    other = read_work_list([line("other")])
    seen = world(line("other"), disk=disk(published()))
    assert still_evicting({"llama": KEY, "other": KEY}, other, seen) == {}


def test_bytes_that_no_status_ever_named_are_listed_under_their_storage_key() -> None:
    assert still_evicting({}, (), world(disk=Disk(staged=frozenset({KEY})))) == {KEY: KEY}


def storage(available: int, kept: int = 50) -> NodeStorage:
    return NodeStorage(
        capacity_bytes=1000, available_bytes=available, kept_free_bytes=kept, used_bytes=100
    )


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"storage": storage(500)}, {"storage": storage(495)}, Change.NONE),
        ({"storage": storage(500)}, {"storage": storage(480)}, Change.PROGRESS),
        ({"storage": storage(0, 45)}, {"storage": storage(0, 40)}, Change.NONE),
        ({"storage": storage(0, 45)}, {"storage": storage(0, 25)}, Change.PROGRESS),
        ({"copies": {KEY: CopyView(Reason.DOWNLOADING, 9, 1)}}, {}, Change.STATE),
        (
            {"copies": {KEY: CopyView(Reason.DOWNLOADING, 9, 1, 5)}},
            {"copies": {KEY: CopyView(Reason.DOWNLOADING, 9, 2, 6)}},
            Change.PROGRESS,
        ),
        (
            {"copies": {KEY: CopyView(Reason.DOWNLOADING, 9, 9)}},
            {"copies": {KEY: CopyView(Reason.VERIFYING, 9, 9)}},
            Change.STATE,
        ),
        ({}, {"generation": 8}, Change.STATE),
        ({}, {}, Change.NONE),
    ],
)
def test_how_much_two_statuses_differ(
    before: dict[str, object], now: dict[str, object], expected: Change
) -> None:
    def built(more: dict[str, object]) -> object:
        running = {KEY: fetching()} if "copies" in more else {}
        return build_status(scene(line(), seen=world(line(), running=running), **more))

    assert change(built(before), built(now)) is expected  # type: ignore[arg-type]


def test_times_are_written_in_whole_seconds() -> None:
    moment = datetime.fromisoformat("2026-05-04T12:00:00.123456+00:00")
    seen = world(line(), failures={KEY: failure(next_try=moment, fingerprint=wanted().fingerprint)})
    assert report(line(), seen=seen).next_retry_time == moment.replace(microsecond=0)
