"""A copy dies, the power is lost, again and again: what is published in the end is the source's, and nothing else is left."""

import asyncio
import contextlib
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.policy import SourcePolicy
from agent.storage.store import Store
from tests.component.sources.copying import copied
from tests.support.disks import Crash, in_one_go
from tests.support.syscalls import Loss, Power, Syscalls
from tests.support.trees import read_files, strays, write_files

MEMORY = Path("/dev/shm")
SIZES = {"config.json": 500, "weights/a": 9000, "weights/b": (1 << 20) + 5, "weights/empty": 0}
CONTENT = {path: random.Random(path).randbytes(size) for path, size in SIZES.items()}
# A whole copy takes about as many.
steps = st.integers(0, 75)
tears = st.sampled_from([0.0, 0.6])
losses = st.builds(
    Loss,
    st.integers(0, 999),
    names=st.sampled_from([0.0, 0.2]),
    pages=st.sampled_from([0.1, 0.5, 1.0]),
    ends=st.sampled_from([0.0, 0.3]),
)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="copy-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def moves_folders(root: Path) -> bool:
    """From here on folders change places, which file systems keep the order of: names are there or not, but never both."""
    manifests = root / ".localmodel/manifests"
    return any(manifests.iterdir()) or any((root / "models").iterdir())


def published(root: Path) -> list[dict[str, bytes]]:
    """As the next start has them."""
    store = Store.open(root)
    try:
        return [read_files(root / "models" / key) for key in store.trees()]
    finally:
        store.close()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(steps, tears, losses), min_size=1, max_size=3), st.booleans())
def test_a_copy_that_dies_anywhere_and_loses_power_is_gone_on_with_and_published_whole(
    deaths: list[tuple[int, float, Loss]], at_once: bool
) -> None:
    with folder() as place, in_one_go() if at_once else contextlib.nullcontext():
        source, root = place / "source", place / "root"
        write_files(source, CONTENT)
        Store.open(root).close()
        power = Power(root)

        def copy() -> dict[str, bytes]:
            done = asyncio.run(copied(f"file://{source}", root, SourcePolicy.unrestricted()))
            return done.files

        for step, torn, loss in deaths:
            with Syscalls(root, power=power, dies_at=step, torn=torn), contextlib.suppress(Crash):
                copy()
            power.lose(replace(loss, names=0) if moves_folders(root) else loss)
            assert published(root) in ([], [CONTENT])
        power.close()
        assert copy() == CONTENT
        store = Store.open(root)
        assert strays(store, root) == []
        store.close()
