"""Many threads on one store, as the agent's executor runs them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from agent.storage.errors import StoreUnavailable
from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support.disks import SteppingDisk
from tests.support.store_worker import content_of, fill
from tests.support.trees import EPOCH, KEY, model, publish, strays

ROUNDS = 12


def test_models_are_filled_evicted_looked_at_and_swept_side_by_side(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    uris = [f"s3://bucket/{number}" for number in range(4)]

    def refill(uri: str) -> None:
        for revision in range(ROUNDS):
            fill(store, uri, str(revision))
            if revision % 5 == 4:
                store.evict(storage_key(uri))

    def look(_: str) -> None:
        for _round in range(ROUNDS):
            for key in store.trees():
                assert store.inspect(key) == ()
                assert store.verify(key, cancelled=threading.Event()) == ()
            assert store.foreign() <= {storage_key(uri) for uri in uris}
            store.sweep(now=EPOCH + timedelta(9), grace=timedelta(0), wanted=store_keys(uris))
            assert store.usage().used >= 0

    works: list[tuple[Callable[[str], None], str]] = [(refill, uri) for uri in uris]
    works += [(look, ""), (look, "")]
    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(work, argument) for work, argument in works]:
            done.result()
    for uri in uris:
        assert model(tmp_path, uri) == content_of(uri, str(ROUNDS - 1))
    assert strays(store, tmp_path) == []
    store.close()


def store_keys(uris: list[str]) -> set[str]:
    return {storage_key(uri) for uri in uris}


def wait_until_refused(store: Store) -> None:
    while True:
        try:
            store.foreign()
        except StoreUnavailable:
            return


def test_closing_waits_for_a_publication_under_way_and_refuses_the_next(tmp_path: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def before(name: str, *_: object) -> None:
        if name == "exchange":
            reached.set()
            assert go_on.wait(10)

    store = Store.open(tmp_path, disk=SteppingDisk(before))
    publish(store, {"a": b"1"})
    with ThreadPoolExecutor(2) as pool:
        publishing = pool.submit(publish, store, {"a": b"2"})
        assert reached.wait(10)
        closing = pool.submit(store.close)
        wait_until_refused(store)
        assert not closing.done()
        go_on.set()
        publishing.result()
        closing.result()
    with pytest.raises(StoreUnavailable):
        store.evict(KEY)
    store = Store.open(tmp_path)
    assert model(tmp_path) == {"a": b"2"}
    assert store.inspect(KEY) == ()
    store.close()


def test_closing_interrupts_a_long_deletion_which_the_next_sweep_completes(tmp_path: Path) -> None:
    reached, go_on = threading.Event(), threading.Event()
    deleted: list[object] = []

    def before(name: str, *_: object) -> None:
        if name == "unlink":
            deleted.append(name)
            if len(deleted) == 500:
                reached.set()
                assert go_on.wait(10)

    files = {f"{number % 50}/{number}": b"" for number in range(4000)}
    store = Store.open(tmp_path)
    publish(store, files)
    store.close()
    store = Store.open(tmp_path, disk=SteppingDisk(before))
    with ThreadPoolExecutor(2) as pool:
        evicting = pool.submit(store.evict, KEY)
        assert reached.wait(10)
        closing = pool.submit(store.close)
        wait_until_refused(store)
        go_on.set()
        evicting.result()
        closing.result()
    assert len(deleted) < 4000
    assert model(tmp_path) == {}
    store = Store.open(tmp_path)
    assert strays(store, tmp_path) == []
    store.close()
