"""What the transfer engine does with a source, in the plainest way: open, resolve, and GET ranges of what is signed."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from agent.manifest import Manifest, RemoteFile
from agent.origin import SignedRequest
from agent.policy import Endpoint, SourcePolicy
from agent.sources.base import Source
from agent.sources.credentials import Credentials
from agent.sources.registry import open_source
from shared.domain.uri import SourceUri


@dataclass(frozen=True)
class Got:
    """kept: whether every expected header had its value on the first answer that carried it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    kept: bool


@asynccontextmanager
async def opened(
    uri: str, policy: SourcePolicy, credentials: Credentials | None = None
) -> AsyncIterator[Source]:
    source = open_source(SourceUri.parse(uri), credentials or Credentials(), policy)
    try:
        yield source
    finally:
        await source.close()


async def resolved(
    uri: str, policy: SourcePolicy, credentials: Credentials | None = None
) -> Manifest:
    async with opened(uri, policy, credentials) as source:
        return await source.resolve()


def paths(manifest: Manifest) -> list[str]:
    return [file.path for file in manifest.files]


def only(manifest: Manifest, path: str) -> RemoteFile:
    (found,) = [file for file in manifest.files if file.path == path]
    return found


async def get(request: SignedRequest, start: int | None = None, end: int | None = None) -> Got:
    """`end` is exclusive. Redirects are followed; secrets stay with the first origin."""
    headers = dict(request.headers) | {"Accept-Encoding": "identity"}
    if start is not None:
        headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
    url, origin, unseen, kept = request.url, Endpoint.of(request.url), dict(request.expect), True
    ssl = request.tls.context() if url.startswith("https:") else True
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        while True:
            sent = {
                name: value
                for name, value in headers.items()
                if Endpoint.of(url) == origin or name.lower() not in request.secret_headers
            }
            target = URL(url, encoded=True)
            async with session.get(target, headers=sent, allow_redirects=False, ssl=ssl) as answer:
                for name in [name for name in unseen if name in answer.headers]:
                    kept &= answer.headers[name] == unseen.pop(name)
                if answer.status in {301, 302, 303, 307, 308}:
                    url = urljoin(url, answer.headers["Location"])
                    continue
                body = await answer.read()
                return Got(answer.status, answer.headers, body, kept and not unseen)


async def content(source: Source, file: RemoteFile) -> bytes:
    """The whole file, when it is still the one that was listed."""
    request = await source.sign(file)
    assert isinstance(request, SignedRequest)
    got = await get(request)
    assert got.status == 200
    assert got.kept
    return got.body
