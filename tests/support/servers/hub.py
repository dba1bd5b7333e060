"""A server that speaks the Hugging Face Hub's protocol, and the CDN host that it sends large files from."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from aiohttp import web

from tests.support.processes import LOOPBACK, scratch
from tests.support.servers.threaded import Fault, ThreadedApp

# Files from this size on are "LFS": kept by SHA-256 and served by the CDN.
LFS_BYTES = 1 << 16
TOKEN = "hf_canary_token_good"
# A valid account that was not granted access to gated repositories.
STRANGER = "hf_canary_token_stranger"
_SIGNATURE_KEY = b"cdn"


@dataclass(frozen=True)
class Blob:
    path: Path
    size: int
    oid: str
    """Name of git's blob: SHA-1 over a header and the content, or over the pointer file of a large one."""
    sha256: str | None
    """Of the content; None for small files."""

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid


@dataclass
class Repo:
    """access: "public", "gated" (listed for all, content for the granted) or "private" (nothing for strangers)."""

    access: str
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)


class HubServer:
    """`with HubServer() as hub:` — `hub.endpoint` is what HF_ENDPOINT wants; `hub.add(...)` commits files.

    page: entries per page of a tree. lifetime: seconds that a CDN URL is good for.
    """

    def __init__(
        self, *, page: int = 1000, lifetime: float = 3600.0, address: str = LOOPBACK
    ) -> None:
        self.page = page
        self.lifetime = lifetime
        self._repos: dict[str, Repo] = {}
        self._api = ThreadedApp("hub", address=address)
        self._cdn = ThreadedApp("hub-cdn", address=address)
        self._stack = contextlib.ExitStack()
        routes = self._api.app.router
        routes.add_get("/api/models/{owner}/{name}", self._info)
        routes.add_get("/api/models/{owner}/{name}/auth-check", self._auth_check)
        routes.add_get("/api/models/{owner}/{name}/revision/{revision}", self._info)
        routes.add_get("/api/models/{owner}/{name}/tree/{revision}", self._tree)
        routes.add_get("/{owner}/{name}/resolve/{revision}/{path:.*}", self._file)
        self._cdn.app.router.add_get("/{digest}", self._content)

    def __enter__(self) -> HubServer:
        self._folder = self._stack.enter_context(scratch("hub"))
        for server in (self._api, self._cdn):
            self._stack.callback(server.stop)
            server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def endpoint(self) -> str:
        return self._api.url

    @property
    def api(self) -> ThreadedApp:
        """To see its requests and to make it fail."""
        return self._api

    @property
    def cdn(self) -> ThreadedApp:
        return self._cdn

    def fail(self, fault: Fault | None) -> None:
        self._api.fault = fault

    def add(
        self,
        repo: str,
        files: Mapping[str, bytes | Path],
        *,
        branch: str = "main",
        access: str = "public",
    ) -> str:
        """Replace the branch's content; returns the new commit."""
        blobs = {name: self._blob(content) for name, content in files.items()}
        found = self._repos.setdefault(repo, Repo(access))
        found.access = access
        listing = json.dumps([[name, blob.oid] for name, blob in sorted(blobs.items())])
        seed = f"{repo}{branch}{len(found.commits)}{listing}"
        commit = hashlib.sha1(seed.encode()).hexdigest()
        found.commits[commit] = blobs
        found.branches[branch] = commit
        return commit

    def _blob(self, content: bytes | Path) -> Blob:
        if isinstance(content, bytes):
            path = self._folder / hashlib.sha256(content).hexdigest()
            path.write_bytes(content)
        else:
            path = content
        size = path.stat().st_size
        if size < LFS_BYTES:
            data = path.read_bytes()
            return Blob(path, size, _git_name(data), None)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return Blob(path, size, _git_name(pointer.encode()), sha256)

    def _repo(self, request: web.Request, *, content: bool) -> Repo:
        """The repository, when whoever asks may see it."""
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in {"", TOKEN, STRANGER}:
            raise _refusal(401, "", "Invalid credentials in Authorization header")
        repo = self._repos.get(name)
        if repo is None or (repo.access == "private" and token != TOKEN):
            # The real Hub answers 401 to strangers, whether the repository exists or not.
            raise _refusal(404 if token else 401, "RepoNotFound", "Repository not found")
        if content and repo.access == "gated" and token != TOKEN:
            raise _refusal(403 if token else 401, "GatedRepo", "Access to this model is restricted")
        return repo

    def _commit(self, repo: Repo, revision: str) -> str:
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            raise _refusal(404, "RevisionNotFound", "Invalid rev id")
        return commit

    async def _auth_check(self, request: web.Request) -> web.Response:
        self._repo(request, content=True)
        return web.Response()

    async def _info(self, request: web.Request) -> web.Response:
        repo = self._repo(request, content=False)
        commit = self._commit(repo, request.match_info.get("revision", "main"))
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        return web.json_response(
            {
                "id": name,
                "modelId": name,
                "sha": commit,
                "private": repo.access == "private",
                "gated": "manual" if repo.access == "gated" else False,
                "disabled": False,
                "tags": [],
                "siblings": [{"rfilename": path} for path in repo.commits[commit]],
            },
            headers={"X-Repo-Commit": commit},
        )

    async def _tree(self, request: web.Request) -> web.Response:
        repo = self._repo(request, content=False)
        commit = self._commit(repo, request.match_info["revision"])
        entries: list[dict[str, object]] = [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder}
            for folder in sorted(_folders(repo.commits[commit]))
        ]
        entries += [_entry(path, blob) for path, blob in repo.commits[commit].items()]
        start = int(request.query.get("cursor", "0"))
        headers = {"X-Repo-Commit": commit}
        if start + self.page < len(entries):
            following = f"{self.endpoint}{request.path}?recursive=true&cursor={start + self.page}"
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response(entries[start : start + self.page], headers=headers)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        repo = self._repo(request, content=True)
        commit = self._commit(repo, request.match_info["revision"])
        blob = repo.commits[commit].get(request.match_info["path"])
        if blob is None:
            raise _refusal(404, "EntryNotFound", "Entry not found")
        headers = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{blob.etag}"',
            "X-Linked-Size": str(blob.size),
        }
        if blob.sha256 is None:
            return web.FileResponse(blob.path, headers={**headers, "ETag": f'"{blob.etag}"'})
        ends = int(time.time() + self.lifetime)
        query = f"expires={ends}&signature={_signature(blob.sha256, ends)}"
        location = f"{self._cdn.url}/{blob.sha256}?{query}"
        return web.Response(status=302, headers={**headers, "Location": location})

    async def _content(self, request: web.Request) -> web.StreamResponse:
        """As S3 and CloudFront do: one way to authenticate only, and none after its time."""
        digest = request.match_info["digest"]
        if "Authorization" in request.headers:
            return web.Response(status=400, text="Only one auth mechanism allowed")
        ends = int(request.query.get("expires", "0"))
        good = hmac.compare_digest(request.query.get("signature", ""), _signature(digest, ends))
        if not good or ends < time.time():
            return web.Response(status=403, text="Request has expired")
        for repo in self._repos.values():
            for blobs in repo.commits.values():
                for blob in blobs.values():
                    if blob.sha256 == digest:
                        return web.FileResponse(blob.path, headers={"ETag": f'"{digest}"'})
        return web.Response(status=404)


def _git_name(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _folders(blobs: Mapping[str, Blob]) -> set[str]:
    return {
        path[:cut] for path in blobs for cut, letter in enumerate(path) if letter == "/" and cut
    }


def _entry(path: str, blob: Blob) -> dict[str, object]:
    entry: dict[str, object] = {
        "type": "file",
        "oid": blob.oid,
        "size": blob.size,
        "path": path,
    }
    if blob.sha256 is not None:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
    return entry


def _signature(digest: str, ends: int) -> str:
    text = f"{digest}:{ends}".encode()
    return quote(hmac.new(_SIGNATURE_KEY, text, hashlib.sha256).hexdigest())


def _refusal(status: int, code: str, message: str) -> web.HTTPException:
    kinds: dict[int, type[web.HTTPException]] = {
        401: web.HTTPUnauthorized,
        403: web.HTTPForbidden,
        404: web.HTTPNotFound,
    }
    headers = {"X-Error-Message": message}
    if code:
        headers["X-Error-Code"] = code
    return kinds[status](
        headers=headers, text=json.dumps({"error": message}), content_type="application/json"
    )
