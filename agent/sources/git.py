"""git+https:// and https://….git: small repositories at one commit; what git-lfs keeps comes by ranges like all large files."""

import asyncio
import errno
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from agent.daemons import Check, aside
from agent.errors import Retryable, Stalled
from agent.headers import seconds, sendable
from agent.manifest import Algorithm, Digest, Manifest, RemoteFile
from agent.origin import LocalPath, SignedRequest
from agent.policy import Endpoint, SourcePolicy
from agent.sources import git_pack, git_tree, listing
from agent.sources.access import GitAccess, tls
from agent.sources.git_protocol import Remote
from agent.sources.git_room import Room, Stay
from agent.sources.json_answer import parsed
from agent.sources.web import Web
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri, redact

# Objects are read in memory and laid down in the temporary folder, which in a pod holds 64 MiB for all copies.
_LARGEST: Final = 48 << 20
_room: Final = Room(_LARGEST)
# Reading one takes four times as much memory.
_READ_AT_ONCE: Final = 2
_reading: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = (
    WeakKeyDictionary()
)
# Within the time that resolving may take; after that the copy is tried again, as after other failures.
_ROOM_SECONDS: Final = 300.0
_ROOM_LOOK_SECONDS: Final = 1.0
_LFS = "application/vnd.git-lfs+json"
_LFS_MARK = "lfs:"
# Links that say nothing of their end; forges give them minutes to hours.
_LFS_SECONDS = 600.0
_REVISION = re.compile(r"[A-Za-z0-9._+=/-]+")


class GitSource:
    """One repository at one revision."""

    def __init__(self, uri: SourceUri, access: GitAccess, policy: SourcePolicy) -> None:
        self._uri = uri
        path, at, revision = uri.path.partition("@")
        path = path.rstrip("/")
        if not path.strip("/") or (at and not _REVISION.fullmatch(revision)):
            raise Stalled(
                Reason.INVALID_SOURCE, "the URI must be git+https://host/path or …@revision"
            )
        scheme = uri.scheme.removeprefix("git+")
        self._url = f"{scheme}://{uri.authority}{path}"
        _check_host(self._url, access, policy)
        self._what = redact(f"git+{self._url}") + (f"@{revision}" if revision else "")
        self._revision = revision or None
        self._tls = tls(access)
        self._web = Web(policy, self._tls)
        self._remote = Remote(self._url, access, self._web, self._what)
        self._stay = Stay()

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """Pinned: the revision is a commit."""
        await self._leave()
        async with _turn():
            name = await self._remote.find(revision or self._revision)
            commit, blobs = await self._contents(name)
            small = {one.name: one.data for one in blobs.values() if one.pointer is None}
            places = await self._lay_down(small)
        files = [_remote(path, blob, places) for path, blob in blobs.items()]
        return listing.manifest(self._uri.text, files, revision=commit, unpack=False)

    async def sign(self, file: RemoteFile) -> SignedRequest | LocalPath:
        if not file.locator.startswith(_LFS_MARK):
            return LocalPath(Path(file.locator))
        action = await self._lfs(file.locator.removeprefix(_LFS_MARK), file.size or 0)
        headers = action.get("header") or {}
        good = seconds(action.get("expires_in"), otherwise=_LFS_SECONDS)
        return SignedRequest(
            url=str(action["href"]),
            headers=headers,
            secret_headers=frozenset(name.lower() for name in headers),
            # Signed anew before a link runs out, whoever's clock is right.
            expires_in=min(good, _LFS_SECONDS) * 0.8,
            tls=self._tls,
        )

    async def close(self) -> None:
        await self._leave()
        await self._web.close()

    async def _contents(self, name: str) -> tuple[str, Mapping[str, git_tree.Blob]]:
        """A frame of its own: the pack is forgotten when its blobs are there."""
        pack = await self._remote.fetch(name)
        tally = listing.Tally(self._what)
        return await aside(lambda check: _read(pack, name, tally, check))

    async def _leave(self) -> None:
        stay, self._stay = self._stay, Stay()
        await asyncio.shield(aside(lambda _: _room.leave(stay)))

    async def _lay_down(self, blobs: Mapping[str, bytes]) -> Mapping[str, Path]:
        """Where each blob lies, once other copies from git have left enough room."""
        stay = self._stay
        try:
            async with asyncio.timeout(_ROOM_SECONDS):
                while True:
                    places = await aside(lambda check: _room.enter(stay, blobs, self._what, check))
                    if places is not None:
                        return places
                    await asyncio.sleep(_ROOM_LOOK_SECONDS)
        except TimeoutError as exc:
            raise Retryable(
                Reason.TEMPORARY_FOLDER_FULL,
                f"{self._what}: other copies from git take the temporary folder of {_LARGEST >> 20} MiB",
            ) from exc
        except OSError as exc:
            full = exc.errno in {errno.ENOSPC, errno.EDQUOT}
            raise Retryable(
                Reason.TEMPORARY_FOLDER_FULL if full else Reason.DISK_ERROR,
                f"{self._what}: the temporary folder cannot hold it",
            ) from exc

    async def _lfs(self, sha256: str, size: int) -> dict[str, Any]:
        """Where the server of git-lfs says that this content is."""
        wanted = {
            "operation": "download",
            "transfers": ["basic"],
            "objects": [{"oid": sha256, "size": size}],
        }
        place = self._url if self._url.endswith(".git") else f"{self._url}.git"
        answer = await self._web.request(
            "POST",
            f"{place}/info/lfs/objects/batch",
            what=f"{self._what}: git-lfs",
            headers={**self._remote.headers, "Accept": _LFS, "Content-Type": _LFS},
            body=json.dumps(wanted).encode(),
        )
        try:
            (found,) = parsed(answer.body)["objects"]
            action = None if found.get("error") else found["actions"]["download"]
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise self._strange() from exc
        if not isinstance(action, dict):
            raise Stalled(Reason.SOURCE_NOT_FOUND, f"{self._what}: git-lfs does not have a file")
        headers = action.get("header") or {}
        if not isinstance(headers, dict) or not all(map(_is_header, headers.items())):
            raise self._strange()
        try:
            scheme = Endpoint.of(str(action.get("href"))).scheme
        except ValueError:
            raise Stalled(
                Reason.INVALID_SOURCE, f"{self._what}: git-lfs leads to no usable URL"
            ) from None
        if scheme not in {"http", "https"} or (scheme == "http" and self._url.startswith("https:")):
            raise Stalled(
                Reason.SOURCE_NOT_ALLOWED, f"{self._what}: git-lfs leads to an unprotected place"
            )
        return action

    def _strange(self) -> Retryable:
        return Retryable(Reason.SOURCE_ERROR, f"{self._what}: git-lfs does not answer as expected")


def _is_header(pair: tuple[object, object]) -> bool:
    return all(isinstance(text, str) and text and sendable(text) for text in pair)


@asynccontextmanager
async def _turn() -> AsyncIterator[None]:
    """Of those who read packs."""
    loop = asyncio.get_running_loop()
    async with _reading.setdefault(loop, asyncio.Semaphore(_READ_AT_ONCE)):
        yield


def _read(
    pack: bytearray, name: str, tally: listing.Tally, check: Check
) -> tuple[str, Mapping[str, git_tree.Blob]]:
    objects = git_pack.objects(pack, limit_bytes=_LARGEST, check=check)
    commit = git_tree.peel(objects, name)
    return commit, git_tree.files(objects, commit, tally=tally, check=check)


def _remote(path: str, blob: git_tree.Blob, places: Mapping[str, Path]) -> RemoteFile:
    pointer = blob.pointer
    if pointer is not None:
        sha256 = Digest(Algorithm.SHA256, pointer.sha256)
        locator = f"{_LFS_MARK}{pointer.sha256}"
        return RemoteFile(path, pointer.size, pointer.sha256, locator, (sha256,))
    digest = Digest(Algorithm.GIT_SHA1, blob.name)
    return RemoteFile(path, len(blob.data), blob.name, str(places[blob.name]), (digest,))


def _check_host(url: str, access: GitAccess, policy: SourcePolicy) -> None:
    """Name and password go where whoever stored them said, or where the admin says."""
    if not access.secret:
        return
    parts = urlsplit(url)
    bound = access.host is not None and access.host.lower() in {
        parts.hostname,
        parts.netloc.lower(),
    }
    if not bound and not policy.may_receive_credentials(url):
        raise Stalled(
            Reason.SOURCE_NOT_ALLOWED,
            f"stored credentials do not go to {parts.hostname}: GIT_HOST of the secret names another host or none; "
            "an admin can also list the host in credential_endpoints",
        )
