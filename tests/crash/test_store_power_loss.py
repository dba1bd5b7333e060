"""The store loses power before each of its system calls in turn; the next start finds the old tree or the new one, whole."""

import contextlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from agent.storage.store import Store
from tests.support.disks import Crash, CrashingDisk, SteppingDisk, in_one_go
from tests.support.trees import (
    EPOCH,
    KEY,
    model,
    publish,
    read_files,
    strays,
    tree_of,
    write_files,
)

OLD = {"config.json": b"{}", "weights/a": b"old", "gone": b"x"}
NEW = {"config.json": b"{}", "weights/a": b"new!", "weights/b": b"more"}
OTHER = "s3://bucket/other"
OTHER_CONTENT = {"other": b"untouched"}


def staged_path(root: Path) -> Path:
    return root / ".localmodel" / "staging" / KEY / "tree"


def stage(root: Path, content: Mapping[str, bytes]) -> None:
    store = Store.open(root)
    write_files(store.staging(KEY).tree, content)
    store.close()


def prepare_nothing(root: Path) -> None:
    stage(root, NEW)


def prepare_old(root: Path) -> None:
    store = Store.open(root)
    publish(store, OLD)
    store.close()
    stage(root, NEW)


def prepare_empty_folder(root: Path) -> None:
    (root / "models" / KEY).mkdir(parents=True)
    stage(root, NEW)


def prepare_foreign(root: Path) -> None:
    write_files(root / "models" / KEY, OLD)
    stage(root, NEW)


def do_publish(store: Store, root: Path) -> None:
    store.publish(tree_of(NEW, revision="r2"), staged_path(root))


def do_evict(store: Store, root: Path) -> None:
    store.evict(KEY)


def do_adopt(store: Store, root: Path) -> None:
    store.adopt(tree_of(OLD))


def do_sweep(store: Store, root: Path) -> None:
    store.sweep(now=EPOCH + timedelta(days=9), grace=timedelta(0), wanted=())


NOTHING: dict[str, bytes] = {}


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "in one go"])
@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize(
    ("prepare", "act", "before", "after"),
    [
        (prepare_nothing, do_publish, NOTHING, NEW),
        (prepare_old, do_publish, OLD, NEW),
        (prepare_empty_folder, do_publish, NOTHING, NEW),
        (prepare_foreign, do_publish, OLD, NEW),
        (prepare_foreign, do_adopt, OLD, OLD),
        (prepare_old, do_evict, OLD, NOTHING),
        (prepare_old, do_sweep, OLD, OLD),
    ],
    ids=["first", "replace", "over empty", "over foreign", "adopt", "evict", "sweep"],
)
def test_any_crash_leaves_old_or_new(
    tmp_path: Path,
    prepare: Callable[[Path], None],
    act: Callable[[Store, Path], None],
    before: Mapping[str, bytes],
    after: Mapping[str, bytes],
    exchanges: bool,
    at_once: bool,
) -> None:
    seen = set()
    for step in range(1000):
        root = tmp_path / str(step)
        prepare(root)
        other = Store.open(root)
        publish(other, OTHER_CONTENT, uri=OTHER)
        other.close()
        write_files(root / "models" / "not-a-key", {"foreign": b"mine"})
        unsynced = tuple(path for path in staged_path(root).rglob("*") if path.is_file())
        disk = CrashingDisk(step, unsynced=unsynced, exchanges=exchanges)
        with in_one_go() if at_once else contextlib.nullcontext():
            finished = attempt(root, disk, act)
        disk.power_off()
        recover_with_crashes(root, step)

        store = Store.open(root)
        found = model(root)
        assert found in (before, after), f"step {step}"
        seen.add(found == after)
        published = store.trees().get(KEY)
        if published is not None:
            assert {file.path: file.size for file in published.files} == {
                path: len(data) for path, data in found.items()
            }
            assert store.inspect(KEY) == ()
            assert store.extras(KEY) == ()
        if finished:
            assert found == after
        assert model(root, OTHER) == OTHER_CONTENT
        assert read_files(root / "models" / "not-a-key") == {"foreign": b"mine"}
        assert strays(store, root) == []
        assert model(root) == found
        store.close()
        if finished:
            break
    assert finished
    assert seen == {False, True} or before == after


def attempt(root: Path, disk: CrashingDisk, act: Callable[[Store, Path], None]) -> bool:
    try:
        store = Store.open(root, disk=disk)
    except Crash:
        return False
    try:
        act(store, root)
    except Crash:
        return False
    finally:
        store.close()
    return True


def recover_with_crashes(root: Path, seed: int) -> None:
    """Some starts crash as well."""
    for step in range(seed % 7, 40, 7):
        try:
            Store.open(root, disk=CrashingDisk(step)).close()
        except Crash:
            continue
        return


def test_a_crash_while_a_root_is_made_is_completed_by_the_next_start(tmp_path: Path) -> None:
    for step in range(1000):
        root = tmp_path / str(step)
        finished = attempt(root, CrashingDisk(step), lambda store, root: None)
        store = Store.open(root)
        publish(store, NEW)
        assert model(root) == NEW
        assert strays(store, root) == []
        store.close()
        if finished:
            return
    pytest.fail("a root is never finished")


def test_what_was_staged_survives_a_crash_before_publication(tmp_path: Path) -> None:
    root = tmp_path / "root"
    stage(root, NEW)

    def stop_at_intent(name: str, *args: object) -> None:
        if name == "create":
            raise Crash

    store = Store.open(root, disk=SteppingDisk(stop_at_intent))
    with pytest.raises(Crash):
        do_publish(store, root)
    store.close()
    store = Store.open(root)
    assert read_files(store.staging(KEY).tree) == NEW
    do_publish(store, root)
    assert model(root) == NEW
    store.close()
