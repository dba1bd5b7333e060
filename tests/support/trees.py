"""Models for the store: their bytes, their manifests, and what is on a disk."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.manifest import Algorithm, Digest, RemoteFile, Strength
from agent.storage.store import Store
from agent.storage.tree import Tree, TreeFile
from shared.domain.storage_key import storage_key

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
URI = "s3://bucket/model"
KEY = storage_key(URI)


def sha256(content: bytes) -> Digest:
    return Digest(Algorithm.SHA256, hashlib.sha256(content).hexdigest())


def tree_file(path: str, content: bytes, *, validator: str = "v1") -> TreeFile:
    return TreeFile(path, len(content), (sha256(content),), validator, Strength.SHA256)


def remote_file(path: str, content: bytes, *, validator: str = "v1") -> RemoteFile:
    return RemoteFile(path, len(content), validator, path, (sha256(content),))


def tree_of(
    content: Mapping[str, bytes],
    *,
    uri: str = URI,
    revision: str = "r1",
    at: datetime = EPOCH,
    trust: str = "cluster",
) -> Tree:
    return Tree(
        storage_key=storage_key(uri),
        uri=uri,
        revision=revision,
        selections=[{"allow": None, "ignore": []}],
        files=tuple(tree_file(path, data) for path, data in content.items()),
        published_at=at,
        verified_by=Strength.SHA256,
        trust=trust,
    )


def write_files(folder: Path, content: Mapping[str, bytes]) -> None:
    for path, data in content.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def publish(
    store: Store,
    content: Mapping[str, bytes],
    *,
    uri: str = URI,
    revision: str = "r1",
    at: datetime = EPOCH,
) -> Tree:
    """Stage and publish, as the agent does after a fetch."""
    tree = tree_of(content, uri=uri, revision=revision, at=at)
    staging = store.staging(tree.storage_key)
    write_files(staging.tree, content)
    store.publish(tree, staging.tree)
    return tree


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; empty when there is no folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def model(root: Path, uri: str = URI) -> dict[str, bytes]:
    """What a pod that mounts the model sees."""
    return read_files(root / "models" / storage_key(uri))


def strays(store: Store, root: Path) -> list[str]:
    """What is left below the store's own folder after a sweep, apart from the fixed parts and the manifests of what is published."""
    store.sweep(now=EPOCH + timedelta(days=3650), grace=timedelta(0), wanted=())
    fixed = {"VERSION", "lock", "manifests", "staging", "retired", "retired/.trash"}
    known = {f"manifests/{key}.json" for key in store.trees()}
    private = root / ".localmodel"
    found = {path.relative_to(private).as_posix() for path in private.rglob("*")}
    return sorted(found - fixed - known)
