"""A process that works on the store without pause is killed again and again; every tree is one revision, whole."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support.store_worker import URIS, content_of
from tests.support.trees import model, strays

KILLS = 25


def test_killed_at_random_instants(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    instants = random.Random(seed)
    seen: set[str] = set()
    for kill in range(KILLS):
        command = [
            sys.executable,
            "-m",
            "tests.support.store_worker",
            str(tmp_path),
            str(seed + kill),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            took = 0.0
            for _ in range(instants.randint(2, 4)):
                began = time.monotonic()
                assert worker.stdout.readline() == b"ready\n", f"seed {seed}"
                took = time.monotonic() - began
            # Somewhere within the next operation, as far as the last one tells.
            threading.Event().wait(instants.uniform(0, 1.5 * took))
            worker.kill()
        check(tmp_path, f"seed {seed}, kill {kill}", seen, sweep=kill % 5 == 4)
    assert len(seen) > 1


def check(root: Path, when: str, seen: set[str], *, sweep: bool) -> None:
    store = Store.open(root)
    trees = store.trees()
    assert store.foreign() == frozenset(), when
    for uri in URIS:
        tree = trees.get(storage_key(uri))
        expected = {} if tree is None else content_of(uri, tree.revision)
        assert model(root, uri) == expected, when
        assert store.inspect(storage_key(uri)) == (), when
        assert store.verify(storage_key(uri), cancelled=threading.Event()) == (), when
        if tree is not None:
            seen.add(tree.revision)
    if sweep:
        assert strays(store, root) == [], when
    store.close()
