from hypothesis import given
from hypothesis import strategies as st

from shared.domain.placement import Placement, Room, Waiting, Want, place
from shared.domain.reasons import Reason

GROUPS = ("g", "h")
KEYS = [f"m{i}" for i in range(8)]
WANTS = st.lists(
    st.builds(
        Want,
        key=st.sampled_from(KEYS),
        storage_key=st.sampled_from(["s0", "s1", "s2", "s3", "s4"]),
        group=st.sampled_from(GROUPS),
        size=st.integers(0, 20),
        created=st.sampled_from(["1", "2", "3"]),
        present=st.booleans(),
    ),
    unique_by=lambda want: want.key,
)
ROOMS = st.builds(
    Room,
    limits=st.fixed_dictionaries({group: st.integers(0, 40) for group in GROUPS}),
    disk=st.none() | st.integers(-5, 60),
    held=st.dictionaries(st.sampled_from(["s3", "s4", "s9"]), st.integers(0, 10)),
    closed=st.dictionaries(
        st.sampled_from(GROUPS), st.just(Waiting(Reason.PATH_MISMATCH, "elsewhere")), max_size=1
    ),
)


def folders(wants: list[Want], placement: Placement) -> dict[str, int]:
    """Bytes by folder of what is placed."""
    found: dict[str, int] = {}
    for want in wants:
        if want.key in placement.placed:
            found[want.storage_key] = max(found.get(want.storage_key, 0), want.size)
    return found


@given(WANTS, ROOMS, st.randoms(use_true_random=False))
def test_the_order_in_which_caches_are_seen_does_not_matter(wants, room, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(wants)
    random.shuffle(shuffled)
    assert place(shuffled, room) == place(wants, room)


@given(WANTS, ROOMS)
def test_every_cache_is_either_placed_or_told_why_not(wants: list[Want], room: Room) -> None:
    placement = place(wants, room)
    assert placement.placed.keys() | placement.waiting.keys() == {want.key for want in wants}
    assert not placement.placed.keys() & placement.waiting.keys()


@given(WANTS, ROOMS)
def test_what_is_there_stays(wants: list[Want], room: Room) -> None:
    placement = place(wants, room)
    assert {want.key for want in wants if want.present} <= placement.placed.keys()


@given(WANTS, ROOMS)
def test_nothing_new_exceeds_the_disk_or_a_groups_limit(wants: list[Want], room: Room) -> None:
    before = place([want for want in wants if want.present], room)
    after = place(wants, room)
    if room.disk is not None:
        assert after.total <= max(room.disk, before.total)
    for group, limit in room.limits.items():
        assert after.used[group] <= max(limit, before.used[group])
    held = dict(room.held)
    for folder, size in folders(wants, after).items():
        held[folder] = max(held.get(folder, 0), size)
    assert after.total == sum(held.values())


@given(WANTS, ROOMS)
def test_what_was_placed_is_placed_again_once_it_is_there(wants: list[Want], room: Room) -> None:
    first = place(wants, room)
    settled = [
        Want(w.key, w.storage_key, w.group, w.size, w.created, w.key in first.placed) for w in wants
    ]
    again = place(settled, room)
    assert again.placed == first.placed
    assert again.waiting.keys() == first.waiting.keys()


@given(WANTS, ROOMS)
def test_whoever_waits_for_space_would_really_exceed_something(
    wants: list[Want], room: Room
) -> None:
    placement = place(wants, room)
    for key, waiting in placement.waiting.items():
        assert waiting.reason is Reason.PATH_MISMATCH or waiting.short > 0, key
