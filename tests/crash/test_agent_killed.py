"""A process that fills, shares, replaces, evicts and reads again is killed at 200 random instants; no byte is ever wrong."""

import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from agent.copying.assembly import now
from agent.node.scrub import load
from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support import agent_worker
from tests.support.processes import wait_until
from tests.support.servers.hub import HubServer
from tests.support.trees import model, strays

KILLS = 200
Commits = dict[str, dict[str, dict[str, bytes]]]


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def commits(hub: HubServer) -> Commits:
    """Content by URI and revision. Weights are shared by models and by revisions, other files are not."""
    shared = {f"shared-{number}.bin": os.urandom(700_000) for number in range(2)}
    made: Commits = {}
    for name in ("one", "two", "three"):
        own = os.urandom(400_000)
        made[f"hf://acme/{name}"] = {}
        for number in range(3):
            files = {
                **shared,
                "own.safetensors": own,
                f"delta-{number}.bin": os.urandom(300_000),
                "config.json": f'{{"model": "{name}", "revision": {number}}}'.encode(),
                f"tokenizer/{number}/vocab.txt": name.encode() * 2000,
            }
            revision = hub.add(f"acme/{name}", files)
            made[f"hf://acme/{name}"][revision] = files
    return made


# On a busy machine, where each process needs longer to publish something.
@pytest.mark.timeout(400)
def test_killed_at_200_random_instants(hub: HubServer, commits: Commits, tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    instants = random.Random(seed)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([agent_worker.__name__])
    revisions = {uri: sorted(known) for uri, known in commits.items()}
    met: Counter[str] = Counter()
    for kill in range(KILLS):
        arguments = (tmp_path, hub.endpoint, revisions, seed + kill)
        process = context.Process(target=agent_worker.work, args=arguments)
        process.start()
        if kill < 2:  # the second one finds everything loaded
            longest = min(max(0.35, 1.5 * until_published(tmp_path)), 1.5)
        else:
            threading.Event().wait(instants.uniform(0.02, longest))
        assert process.is_alive(), f"seed {seed}, kill {kill}: it ended by itself"
        process.kill()
        process.join()
        process.close()
        check(tmp_path, commits, f"seed {seed}, kill {kill}", met)
    # The kills came at all kinds of moments, or this shows nothing.
    kinds = ("published", "shared", "half-way", "read again")
    assert min(met[kind] for kind in kinds) >= KILLS // 20, met

    store = Store.open(tmp_path)
    store.sweep(now=now() + timedelta(days=1), grace=timedelta(0), wanted=())
    for uri in commits:
        store.evict(storage_key(uri))
    assert strays(store, tmp_path) == ["scrub"], f"seed {seed}"
    assert list((tmp_path / "models").iterdir()) == []
    store.close()


def until_published(root: Path) -> float:
    """Seconds until a process that was started just now has published a model that was not there."""
    began, before = time.monotonic(), published(root)
    wait_until(lambda: bool(published(root) - before), seconds=30, what="a model", interval=0.005)
    return time.monotonic() - began


def published(root: Path) -> set[tuple[str, int]]:
    return {(path.name, path.stat().st_ino) for path in (root / "models").glob("*")}


def check(
    root: Path, commits: Mapping[str, Mapping[str, dict[str, bytes]]], when: str, met: Counter[str]
) -> None:
    store = Store.open(root)
    trees = store.trees()
    assert store.foreign() == frozenset(), when
    for uri, revisions in commits.items():
        key = storage_key(uri)
        tree = trees.get(key)
        assert model(root, uri) == ({} if tree is None else revisions[tree.revision]), when
        assert store.inspect(key) == (), when
    met["published"] += bool(trees)
    ended = [reading.ended for reading in load(root / ".localmodel").values()]
    met["read again"] += any(ended)
    met["half-way"] += any((root / ".localmodel" / "staging").iterdir())
    inodes = Counter(path.stat().st_ino for path in (root / "models").glob("*/shared-*"))
    met["shared"] += any(count > 1 for count in inodes.values())
    store.close()
