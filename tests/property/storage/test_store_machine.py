"""Any sequence of publishing, evicting, adopting, sweeping, tampering and losing power keeps every tree old or new, whole, and nobody else's files."""

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.storage import sharing
from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support.disks import Crash, CrashingDisk, in_one_go
from tests.support.trees import EPOCH, read_files, remote_file, strays, tree_of, write_files

URIS = ["s3://b/one", "s3://b/two", "hf://o/three"]
NAMES = ["a", "b", "d/a", "d/e/c"]
MEMORY = Path("/dev/shm")

uris = st.sampled_from(URIS)
contents = st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=4), min_size=1)
# Longer than any operation, so that some of them end without a crash.
crash_steps = st.integers(0, 90)


class StoreMachine(RuleBasedStateMachine):
    """`published` is what the store must hold; `foreign` is what somebody else put under `models/`."""

    def __init__(self) -> None:
        super().__init__()
        memory = MEMORY if MEMORY.is_dir() else None
        self.root = Path(tempfile.mkdtemp(prefix="store-machine-", dir=memory))
        self.published: dict[str, dict[str, bytes]] = {}
        self.foreign: dict[str, dict[str, bytes]] = {"not-a-key": {"mine": b"1"}}
        write_files(self.root / "models" / "not-a-key", self.foreign["not-a-key"])
        self.store = Store.open(self.root)
        self.revision = 0
        self.least_bytes, sharing._LEAST_BYTES = sharing._LEAST_BYTES, 1

    def teardown(self) -> None:
        sharing._LEAST_BYTES = self.least_bytes
        self.store.close()
        shutil.rmtree(self.root)

    def there(self, key: str) -> dict[str, bytes]:
        return read_files(self.root / "models" / key)

    def stage(self, uri: str, content: Mapping[str, bytes], reuse: bool) -> Path:
        key = storage_key(uri)
        staging = self.store.staging(key)
        have: set[str] = set()
        if reuse:
            wanted = [remote_file(*item) for item in content.items()]
            have = {
                file.path for file in self.store.reuse(key, wanted, staging.tree, trust="cluster")
            }
        else:
            self.store.reuse(key, [], staging.tree, trust="cluster")
        missing = {path: data for path, data in content.items() if path not in have}
        for path in missing:
            self.make_room(staging.tree, path)
        write_files(staging.tree, missing)
        files = tree_of(content, uri=uri).files
        self.store.share(key, files, staging.tree, cancelled=threading.Event())
        return staging.tree

    def make_room(self, tree: Path, path: str) -> None:
        file = tree / path
        if file.is_file():
            file.unlink()

    @rule(uri=uris, content=contents, reuse=st.booleans())
    def publish(self, uri: str, content: dict[str, bytes], reuse: bool) -> None:
        staged = self.stage(uri, content, reuse)
        self.revision += 1
        self.store.publish(tree_of(content, uri=uri, revision=str(self.revision)), staged)
        self.published[storage_key(uri)] = content
        self.foreign.pop(storage_key(uri), None)

    @rule(
        uri=uris,
        content=contents,
        reuse=st.booleans(),
        step=crash_steps,
        exchanges=st.booleans(),
        at_once=st.booleans(),
    )
    def crash_while_publishing(
        self,
        uri: str,
        content: dict[str, bytes],
        reuse: bool,
        step: int,
        exchanges: bool,
        at_once: bool,
    ) -> None:
        staged = self.stage(uri, content, reuse)
        self.revision += 1
        tree = tree_of(content, uri=uri, revision=str(self.revision))
        own = [path for path in staged.rglob("*") if path.is_file() and path.stat().st_nlink == 1]
        with in_one_go() if at_once else contextlib.nullcontext():
            self.crash(
                storage_key(uri),
                lambda store: store.publish(tree, staged),
                CrashingDisk(step, unsynced=tuple(own), exchanges=exchanges),
                {**content},
            )

    @rule(uri=uris)
    def evict(self, uri: str) -> None:
        self.store.evict(storage_key(uri))
        self.published.pop(storage_key(uri), None)

    @rule(uri=uris, step=crash_steps)
    def crash_while_evicting(self, uri: str, step: int) -> None:
        key = storage_key(uri)
        after = self.foreign.get(key)
        self.crash(key, lambda store: store.evict(key), CrashingDisk(step), after)

    @rule(uri=uris, content=contents)
    def somebody_puts_a_folder(self, uri: str, content: dict[str, bytes]) -> None:
        key = storage_key(uri)
        if key not in self.published and key not in self.foreign:
            write_files(self.root / "models" / key, content)
            self.foreign[key] = content

    @rule(uri=uris)
    def adopt(self, uri: str) -> None:
        key = storage_key(uri)
        if key in self.foreign:
            self.store.adopt(tree_of(self.foreign[key], uri=uri))
            self.published[key] = self.foreign.pop(key)

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def somebody_damages_a_file_and_it_is_repaired(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.published)))
        uri = next(uri for uri in URIS if storage_key(uri) == key)
        name = data.draw(st.sampled_from(sorted(self.published[key])))
        (self.root / "models" / key / name).unlink()
        assert self.store.inspect(key) == (name,)
        self.publish(uri, self.published[key], reuse=True)

    @rule(step=crash_steps, hours=st.sampled_from([0, 48]))
    def crash_while_sweeping(self, step: int, hours: int) -> None:
        now = EPOCH + timedelta(hours=hours)
        self.crash(
            "",
            lambda store: store.sweep(now=now, grace=timedelta(hours=24), wanted=()),
            CrashingDisk(step),
            None,
        )

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.root)

    def crash(
        self,
        key: str,
        act: Callable[[Store], None],
        disk: CrashingDisk,
        after: dict[str, bytes] | None,
    ) -> None:
        """Run on a disk that loses power; afterwards the key holds what it did, or `after`."""
        self.store.close()
        finished = False
        try:
            store = Store.open(self.root, disk=disk)
            try:
                act(store)
                finished = True
            finally:
                store.close()
        except Crash:
            pass
        disk.power_off()
        self.store = Store.open(self.root)
        if not key:
            return
        found = self.there(key)
        before = self.published.get(key, self.foreign.get(key, {}))
        assert found in ((after or {}), before)
        if finished:
            assert found == (after or {})
        if key in self.store.trees():
            self.published[key] = found
            self.foreign.pop(key, None)
        else:
            self.published.pop(key, None)

    @invariant()
    def what_is_published_is_whole(self) -> None:
        assert set(self.store.trees()) == set(self.published)
        for key, content in self.published.items():
            assert self.there(key) == content
            assert {file.path for file in self.store.trees()[key].files} == set(content)
            assert self.store.inspect(key) == ()
            assert self.store.verify(key, cancelled=threading.Event()) == ()
            assert self.store.extras(key) == ()

    @invariant()
    def what_is_foreign_is_untouched(self) -> None:
        assert self.store.foreign() == set(self.foreign)
        for name, content in self.foreign.items():
            assert self.there(name) == content

    @invariant()
    def usage_is_what_a_walk_finds(self) -> None:
        seen: dict[int, int] = {}
        ours = [self.root / "models" / key for key in self.published]
        ours += [self.root / ".localmodel" / name for name in ("staging", "retired")]
        for folder in ours:
            for path in [folder, *folder.rglob("*")]:
                if path.name not in {"staging", "retired", ".trash"} and path.suffix != ".json":
                    seen[path.lstat().st_ino] = path.lstat().st_blocks * 512
        assert self.store.usage().used == sum(seen.values())

    @rule()
    def a_sweep_leaves_no_stray(self) -> None:
        assert strays(self.store, self.root) == []


StoreMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestStore = StoreMachine.TestCase
