"""A program that publishes, replaces, evicts and sweeps without end, to be killed at any instant.

`python -m tests.support.store_worker ROOT SEED` prints a line when the store is open and after each operation.
"""

import random
import sys
from datetime import timedelta
from pathlib import Path

from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support.trees import EPOCH, remote_file, tree_of, write_files

URIS = ["s3://bucket/one", "s3://bucket/two", "hf://owner/three"]
FILES = 40


def content_of(uri: str, revision: str) -> dict[str, bytes]:
    """Every second file is the same in all revisions; some exist only in even or odd ones."""
    number = int(revision)
    files = {
        f"layer-{layer % 5}/{layer:03}.bin": f"{uri} {layer} {number if layer % 2 else ''}".encode()
        * 300
        for layer in range(FILES)
    }
    files[f"only-{number % 2}"] = revision.encode()
    return files


def fill(store: Store, uri: str, revision: str) -> None:
    """As the agent does: link what is equal, write the rest, publish."""
    key = storage_key(uri)
    content = content_of(uri, revision)
    staging = store.staging(key)
    wanted = [remote_file(path, data) for path, data in content.items()]
    have = {file.path for file in store.reuse(key, wanted, staging.tree, trust="cluster")}
    write_files(staging.tree, {path: data for path, data in content.items() if path not in have})
    store.publish(tree_of(content, uri=uri, revision=revision), staging.tree)


def main(root: Path, seed: int) -> None:
    chosen = random.Random(seed)
    store = Store.open(root)
    while True:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        uri = chosen.choice(URIS)
        match chosen.randrange(6):
            case 0:
                store.evict(storage_key(uri))
            case 1:
                store.sweep(now=EPOCH + timedelta(days=2), grace=timedelta(1), wanted=())
            case _:
                fill(store, uri, str(chosen.randrange(1000)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
