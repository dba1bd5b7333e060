from collections import Counter
from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from agent.planning.desired import Fingerprint, Wanted, group, read_work_list
from agent.planning.status import build_status, still_evicting
from agent.planning.sync import Adopt, Cancel, Evict, Fetch, Verify, Wait, next_due, sync
from agent.planning.world import Disk, Limits, Published, Running, Work, World
from shared.api.node import LocalModelInfo, ModelState
from tests.unit.agent.builders import NOW, failure, line, published, uris
from tests.unit.agent.test_agent_status import scene

URIS = list(uris(5))
KEYS = [published(uri).storage_key for uri in URIS]

lines = st.lists(
    st.builds(
        line,
        st.sampled_from("abcdef"),
        st.sampled_from(URIS),
        namespace=st.sampled_from([None, "team"]),
        allow=st.sampled_from([None, ["*.json"], ["*.bin"]]),
        account=st.sampled_from([None, "one"]),
        revision=st.sampled_from([None, "r1", "r2"]),
    ),
    max_size=6,
)
trees = st.lists(
    st.builds(
        published,
        st.sampled_from(URIS),
        revision=st.sampled_from(["r1", "r2"]),
        allow=st.sampled_from([None, ["*.json"]]),
    ),
    max_size=5,
).map(lambda found: {tree.storage_key: tree for tree in found})
keys = st.frozensets(st.sampled_from(KEYS))
moments = st.integers(-200, 200).map(lambda seconds: NOW + timedelta(seconds=seconds))
limits = st.builds(Limits, parallel=st.integers(1, 4), verifies=st.integers(1, 2))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    work_list = draw(st.none() | lines)
    desired = None if work_list is None else group(read_work_list(work_list))
    on_disk = draw(trees)
    prints: list[Fingerprint | None] = [want.fingerprint for want in (desired or {}).values()]
    running = draw(
        st.dictionaries(
            st.sampled_from(KEYS),
            st.builds(
                Running,
                st.sampled_from(Work),
                st.sampled_from(prints or [None]),
                st.sampled_from([None, "r1", "r2"]),
                st.booleans(),
            ),
            max_size=3,
        )
    )
    failing = draw(st.dictionaries(st.sampled_from(KEYS), moments, max_size=3))
    return World(
        now=NOW,
        desired=desired,
        disk=Disk(
            published=on_disk,
            staged=draw(keys),
            foreign=draw(keys) - on_disk.keys(),
            damaged={key: ("x",) for key in draw(keys) & on_disk.keys()},
            checked=draw(st.dictionaries(st.sampled_from(KEYS), moments, max_size=5)),
        ),
        running=running,
        failures={
            key: replace(
                failure(next_try=moment),
                fingerprint=desired[key].fingerprint if desired and key in desired else None,
            )
            for key, moment in failing.items()
        },
        granted={key: frozenset(want.accesses) for key, want in (desired or {}).items()},
    )


def key_of(decision: object) -> str:
    if isinstance(decision, Fetch | Adopt):
        return decision.wanted.storage_key
    assert isinstance(decision, Verify | Evict | Cancel | Wait)
    return decision.storage_key


@given(worlds(), limits)
def test_each_tree_gets_at_most_one_decision_and_a_running_one_none_but_a_stop(
    world: World, limits: Limits
) -> None:
    decisions = sync(world, limits)
    assert all(count == 1 for count in Counter(map(key_of, decisions)).values())
    for decision in decisions:
        assert key_of(decision) not in world.running or isinstance(decision, Cancel)


@given(worlds(), limits)
def test_only_what_a_present_work_list_omits_is_ever_removed(world: World, limits: Limits) -> None:
    for decision in sync(world, limits):
        assert world.desired is not None
        if isinstance(decision, Evict):
            assert decision.storage_key not in world.desired
            assert decision.storage_key in {*world.disk.published, *world.disk.staged}


@given(worlds(), limits)
def test_fetches_and_looks_stay_within_their_limits(world: World, limits: Limits) -> None:
    decisions = sync(world, limits)
    busy = Counter(running.work for running in world.running.values())
    fetches = sum(isinstance(decision, Fetch | Adopt) for decision in decisions)
    looks = sum(isinstance(decision, Verify) for decision in decisions)
    assert fetches <= max(limits.parallel - busy[Work.FETCH], 0)
    assert looks <= max(limits.verifies - busy[Work.VERIFY], 0)


def carried_out(world: World, limits: Limits) -> World:
    """The world after everything that runs and everything that was decided has come to its end."""
    disk, running = world.disk, dict(world.running)
    on_disk, staged, foreign = dict(disk.published), disk.staged, disk.foreign
    damaged, checked, settled = dict(disk.damaged), dict(disk.checked), dict(world.settled)
    failures = dict(world.failures)
    ended: list[tuple[str, Work, Wanted | None]] = [
        (key, task.work, (world.desired or {}).get(key)) for key, task in world.running.items()
    ]
    running.clear()
    for decision in sync(world, limits):
        match decision:
            case Fetch(wanted, _) | Adopt(wanted):
                ended.append((wanted.storage_key, Work.FETCH, wanted))
            case Evict(key):
                ended.append((key, Work.EVICT, None))
            case Verify(key):
                ended.append((key, Work.VERIFY, None))
            case Cancel(key):
                ended = [item for item in ended if item[0] != key]
            case Wait():
                pass
    for key, work, want in ended:
        checked[key] = world.now
        if work is Work.EVICT:
            on_disk.pop(key, None)
        elif work is Work.FETCH and want is not None:
            on_disk[key] = Published(
                key, want.uri, want.revision or "r1", want.selections, 1, 1, NOW, "sha256"
            )
        if work is not Work.VERIFY:
            staged, foreign = staged - {key}, foreign - {key}
            damaged.pop(key, None)
            failures.pop(key, None)
    due = next_due(replace(world, running=running, failures=failures), limits)
    return replace(
        world,
        now=max(world.now, due) if due is not None else world.now,
        disk=Disk(on_disk, staged, foreign, damaged, checked),
        running=running,
        failures=failures,
        settled=settled,
    )


@given(worlds(), limits)
def test_the_disk_comes_to_hold_exactly_the_work_list(world: World, limits: Limits) -> None:
    if world.desired is None:
        assert sync(world, limits) == ()
        return
    desired = world.desired
    for _ in range(40):
        world = carried_out(world, limits)
    assert world.disk.published.keys() == desired.keys()
    assert not world.disk.staged - desired.keys()
    for key, wanted in desired.items():
        tree = world.disk.published[key]
        assert tree.selections == wanted.selections
        assert wanted.revision in (None, tree.revision)


@given(worlds(), lines)
def test_a_status_lists_each_entry_once_and_whatever_is_left_of_others(
    world: World, entries: list[LocalModelInfo]
) -> None:
    world = replace(world, desired=group(read_work_list(entries)))
    listed = still_evicting({}, read_work_list(entries), world)
    status = build_status(scene(*entries, seen=world, evicting=listed))
    reports = {report.key: report for report in status.models or ()}
    assert len(reports) == len(status.models or ())
    assert status.model_status == {key: report.state for key, report in reports.items()}
    assert {entry.key for entry in read_work_list(entries)} <= reports.keys()
    named = {report.storage_key for report in reports.values()}
    assert world.disk.published.keys() <= named
    for report in reports.values():
        if report.state is ModelState.DOWNLOADED:
            assert report.storage_key in world.disk.published
