"""`resolve`: what a URI stands for now. Asks the source, writes nothing."""

import asyncio
import os

import orjson

from agent.cli.outcome import files, put, sentences
from agent.manifest import Manifest
from agent.planning.desired import group, read_work_list
from agent.planning.selection import parse_uri, select
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from agent.sources.registry import open_source
from shared.api.node import LocalModelInfo
from shared.domain.printable import clean
from shared.domain.quantity import human_bytes
from shared.domain.storage_key import storage_key

# As long as the agent itself waits for a listing.
_SECONDS = 600.0


def run_resolve(
    uri: str,
    *,
    revision: str | None,
    allow: tuple[str, ...],
    ignore: tuple[str, ...],
    credentials: Credentials,
    as_json: bool,
) -> None:
    info = LocalModelInfo(
        source_model_uri=uri,
        model_name="resolve",
        allow_patterns=allow or None,
        ignore_patterns=ignore or None,
    )
    (wanted,) = group(read_work_list([info])).values()
    with sentences():
        policy = SourcePolicy.unrestricted(hf_endpoint=os.environ.get("HF_ENDPOINT"))
        manifest = asyncio.run(_in_time(uri, revision, credentials, policy))
        if not manifest.packed:
            manifest = select(manifest, wanted.selections)
    put(_json(manifest) if as_json else _text(manifest))


async def ask_source(
    uri: str, revision: str | None, credentials: Credentials, policy: SourcePolicy
) -> Manifest:
    """Raises FetchError."""
    source = open_source(parse_uri(uri), credentials, policy)
    try:
        return await source.resolve(revision=revision)
    finally:
        await source.close()


async def _in_time(
    uri: str, revision: str | None, credentials: Credentials, policy: SourcePolicy
) -> Manifest:
    async with asyncio.timeout(_SECONDS):
        return await ask_source(uri, revision, credentials, policy)


def _json(manifest: Manifest) -> str:
    return orjson.dumps(
        {
            "uri": manifest.uri,
            "storageKey": storage_key(manifest.uri),
            "revision": manifest.revision,
            "pinned": manifest.pinned,
            "archive": manifest.archive,
            "bytes": manifest.size,
            "files": [
                {
                    "path": file.path,
                    "bytes": file.size,
                    "digests": {digest.algorithm: digest.value for digest in file.digests},
                }
                for file in manifest.files
            ],
        },
        option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS,
    ).decode()


def _text(manifest: Manifest) -> str:
    size = "unknown size" if manifest.size is None else human_bytes(manifest.size)
    lines = [f"revision {manifest.revision or 'unknown'}", f"{files(len(manifest.files))}, {size}"]
    for file in manifest.files:
        shown = "?" if file.size is None else human_bytes(file.size)
        lines.append(f"{shown:>10}  {clean(file.path)}")
    return "\n".join(lines)
