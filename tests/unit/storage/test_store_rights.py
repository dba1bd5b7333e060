"""Folders that somebody closed, or that the disk cannot read any more, harm the model that they belong to and nothing else."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.errors import Retryable
from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support.rights import SOMEBODY, modes_count
from tests.support.trees import KEY, model, publish, strays

NEVER = threading.Event()


def closed(folder: Path, mode: int) -> None:
    """Somebody else's, who lets others do what the mode says."""
    folder.chmod(mode)
    os.chown(folder, SOMEBODY, SOMEBODY)


def test_what_may_not_be_deleted_keeps_nothing_else(tmp_path: Path) -> None:
    with modes_count():
        store = Store.open(tmp_path)
        publish(store, {f"d/{name}/f": b"x" for name in "abc"} | {"e": b"y"})
        closed(tmp_path / "models" / KEY / "d/b", 0o755)
        with pytest.raises(Retryable, match="Permission denied"):
            store.evict(KEY)
        assert store.trees() == {}
        trash = tmp_path / ".localmodel/retired/.trash"
        left = [path for path in trash.rglob("*") if path.is_file()]
        assert [path.read_bytes() for path in left] == [b"x"]
        # Nor does it keep others from being made, measured and removed.
        publish(store, {"a": b"1"}, uri="hf://o/m")
        other = storage_key("hf://o/m")
        store.staging(other)
        store.discard_staging(other)
        assert store.usage().used > 0
        assert model(tmp_path, "hf://o/m") == {"a": b"1"}
        os.chown(left[0].parent, 0, 0)
        store.evict(other)
        assert strays(store, tmp_path) == []
        store.close()


@pytest.mark.parametrize("folder", ["d", "."])
def test_what_is_in_a_folder_that_may_not_be_read_is_damaged(tmp_path: Path, folder: str) -> None:
    with modes_count():
        store = Store.open(tmp_path)
        publish(store, {"a": b"1", "d/b": b"2", "d/e/c": b"3"})
        below = ("d/b", "d/e/c") if folder == "d" else ("a", "d/b", "d/e/c")
        tree = tmp_path / "models" / KEY / folder
        closed(tree, 0o700)
        assert store.inspect(KEY) == below
        assert store.verify(KEY, cancelled=NEVER) == below
        assert store.usage().used >= 0
        os.chown(tree, 0, 0)
        assert store.verify(KEY, cancelled=NEVER) == ()
        assert store.inspect(KEY) == ()
        store.close()


def test_a_folder_of_somebody_else_s_that_may_not_be_read_hides_nothing_of_the_model(
    tmp_path: Path,
) -> None:
    with modes_count():
        store = Store.open(tmp_path)
        publish(store, {"a": b"1", "b": b"2"})
        theirs = tmp_path / "models" / KEY / ".cache"
        theirs.mkdir()
        closed(theirs, 0o700)
        assert store.inspect(KEY) == ()
        (tmp_path / "models" / KEY / "b").unlink()
        assert store.inspect(KEY) == ("b",)
        store.close()


def test_a_folder_that_the_disk_cannot_read_is_damage_of_its_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path)
    publish(store, {"a": b"1", "d/b": b"2"})
    publish(store, {"x": b"3"}, uri="hf://o/m")
    bad, scandir = (tmp_path / "models" / KEY / "d").stat().st_ino, os.scandir

    def refuse(folder: int) -> Any:
        if os.fstat(folder).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert store.inspect(KEY) == ("d/b",)
    assert store.inspect(storage_key("hf://o/m")) == ()
    assert store.usage().used > 0
    store.close()
