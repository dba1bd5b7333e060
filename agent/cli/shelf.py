"""`ls`, `verify`, `rm`: what is published below a folder."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import orjson

from agent.cli.outcome import Exit, files, put, say, sentences
from agent.storage import manifests
from agent.storage.disk import open_folder
from agent.storage.errors import translated
from agent.storage.layout import PRIVATE
from agent.storage.manifests import ManifestInvalid
from agent.storage.requests import ask, in_use
from agent.storage.store import Store
from agent.storage.tree import Tree
from agent.storage.verification import verify
from shared.domain.printable import clean
from shared.domain.quantity import human_bytes
from shared.domain.storage_key import is_storage_key, storage_key


@contextmanager
def published(root: Path) -> Iterator[Mapping[str, Tree]]:
    """Read from the manifests, without the lock, so beside a running agent too; nothing where there is no cache.

    A tree's list of files can be read inside the block only.
    """
    folder = root / PRIVATE / "manifests"
    trees: dict[str, Tree] = {}
    with ExitStack() as opened:
        with translated(f"reading {root}"), suppress(FileNotFoundError):
            at = opened.enter_context(descriptor(folder))
            for path in sorted(folder.iterdir()):
                key, _, kind = path.name.partition(".")
                if kind == "json" and is_storage_key(key):
                    with suppress(ManifestInvalid, FileNotFoundError):
                        trees[key] = manifests.read(at, path.name).tree
        yield trees


@contextmanager
def descriptor(folder: Path) -> Iterator[int]:
    """The folder, open while the block runs."""
    at = open_folder(None, folder)
    try:
        yield at
    finally:
        os.close(at)


def key_of(model: str) -> str:
    """A storage key as it is, or that of a URI."""
    return model if is_storage_key(model) else storage_key(model)


def run_ls(root: Path, output: str) -> None:
    with sentences(), published(root) as found:
        trees = sorted(found.values(), key=lambda tree: tree.uri)
    if output == "name":
        for tree in trees:
            put(str(root / "models" / tree.storage_key))
    elif output == "json":
        put(
            orjson.dumps(
                [_described(root, tree) for tree in trees], option=orjson.OPT_INDENT_2
            ).decode()
        )
    elif trees:
        _table(trees)
    else:
        say(f"No model is published below {root}.")


def run_verify(root: Path, models: tuple[str, ...]) -> Exit:
    """Every byte is read; stops only for trouble with the disk itself. An agent that uses the cache is told what is damaged."""
    result = Exit.OK
    damaged = []
    with sentences(), published(root) as trees:
        chosen = models or tuple(sorted(trees))
        for model in chosen:
            tree = trees.get(key_of(model))
            if tree is None:
                say(f"{model} is not published below {root}.")
                result = max(result, Exit.USAGE)
            elif _is_whole(root, tree):
                size = human_bytes(tree.size)
                put(f"{tree.storage_key}  ok  {files(len(tree.files))}, {size}  {tree.uri}")
            else:
                damaged.append(tree.storage_key)
        repaired = bool(damaged) and in_use(root)
        for key in damaged if repaired else ():
            ask(root, key)
    if repaired:
        say(
            "The agent that uses this cache was asked to repair it: only damaged files are fetched."
        )
        say("Where that is no agent but another pull, pull the model again after it.")
    elif damaged:
        say("Pull the model again to repair it: only damaged files are fetched.")
    return Exit.DAMAGED if damaged else result


def run_rm(root: Path, models: tuple[str, ...], *, dry_run: bool) -> Exit:
    result = Exit.OK
    with sentences():
        store = Store.open(root)
        try:
            trees = store.trees()
            for model in models:
                key = key_of(model)
                staged = (root / PRIVATE / "staging" / key).exists()
                if key not in trees and not staged:
                    say(f"{model} is not below {root}.")
                    result = Exit.USAGE
                    continue
                size = human_bytes(trees[key].size) if key in trees else "unfinished"
                if not dry_run:
                    store.discard_staging(key)
                    store.evict(key)
                put(f"{key}  {'would be deleted' if dry_run else 'deleted'}  {size}")
        finally:
            store.close()
    return result


def _is_whole(root: Path, tree: Tree) -> bool:
    with translated(f"verifying {tree.storage_key}"), descriptor(root / "models") as at:
        damaged = verify(at, tree, cancelled=lambda _: False).damaged
    for path in damaged:
        put(f"{tree.storage_key}  damaged  {clean(path)}")
    return not damaged


def _described(root: Path, tree: Tree) -> dict[str, object]:
    return {
        "storageKey": tree.storage_key,
        "uri": tree.uri,
        "path": str(root / "models" / tree.storage_key),
        "revision": tree.revision,
        "bytes": tree.size,
        "files": len(tree.files),
        "verifiedBy": tree.verified_by.value,
        "publishedAt": tree.published_at.isoformat(),
        "selections": tree.selections,
    }


def _table(trees: list[Tree]) -> None:
    rows = [("KEY", "SIZE", "FILES", "VERIFIED", "PUBLISHED", "SOURCE")]
    rows += [
        (
            tree.storage_key,
            human_bytes(tree.size),
            str(len(tree.files)),
            tree.verified_by.value,
            tree.published_at.strftime("%Y-%m-%d %H:%M"),
            tree.uri,
        )
        for tree in trees
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        put("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
