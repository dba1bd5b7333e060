from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.blocking import Blocking
from agent.shelf import Shelf
from agent.space import Ledger
from agent.storage.store import Store
from shared.api.node import NodeStorage


def storage(root: Path, *, min_free_percent: float) -> NodeStorage:
    """What the status says of the disk that the folder is on."""
    store, blocking = Store.open(root), Blocking(1)
    ledger = Ledger(
        usage=store.usage,
        reclaim=lambda: None,
        discard=lambda _: None,
        holders=dict,
        min_free_percent=min_free_percent,
        blocking=blocking,
    )
    shelf = Shelf(
        store,
        ledger,
        root=root,
        retired_grace=timedelta(0),
        clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
    )
    shelf.saw(shelf.look([]))
    store.close()
    blocking.close()
    found = shelf.storage()
    assert found is not None
    return found


def test_space_that_stays_free_is_not_offered_to_models(tmp_path: Path) -> None:
    whole = storage(tmp_path, min_free_percent=0)
    half = whole.available_bytes / whole.capacity_bytes * 50
    offered = storage(tmp_path, min_free_percent=half)
    assert offered.available_bytes == pytest.approx(whole.available_bytes / 2, rel=0.05)
    assert storage(tmp_path, min_free_percent=100).available_bytes == 0
