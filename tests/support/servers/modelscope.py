"""A server that speaks ModelScope's HTTP API, and the object store that it sends large files from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from tests.support.servers.threaded import Fault, ThreadedApp

TOKEN = "ms-canary-token"
# Files from this size on come from the object store.
LARGE_BYTES = 1 << 16


@dataclass
class _Repo:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    brought: dict[str, dict[str, str]] = field(default_factory=dict)
    """By commit and path: which commit brought the file."""


class ModelScopeServer:
    """`with ModelScopeServer() as hub:` — `hub.endpoint` is what MODELSCOPE_ENDPOINT wants; `hub.add(...)` commits files.

    limit: entries after which a listing is cut off without a word. lies: SHA-256 that is stated instead, by path. vague: whether a listing
    names a branch where a commit belongs.
    """

    def __init__(self, *, limit: int = 3000) -> None:
        self.limit = limit
        self.lies: dict[str, str] = {}
        self.vague = False
        self._repos: dict[str, _Repo] = {}
        self.api = ThreadedApp("modelscope")
        self.store = ThreadedApp("modelscope-store")
        routes = self.api.app.router
        routes.add_get("/api/v1/models/{owner}/{name}/repo/files", self._files)
        routes.add_get("/api/v1/models/{owner}/{name}/repo", self._file)
        self.store.app.router.add_get("/{digest}", self._content)

    def __enter__(self) -> ModelScopeServer:
        self.api.start()
        self.store.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.store.stop()
        self.api.stop()

    @property
    def endpoint(self) -> str:
        return self.api.url

    def fail(self, fault: Fault | None) -> None:
        self.api.fault = fault

    def add(
        self,
        repo: str,
        files: Mapping[str, bytes],
        *,
        branch: str = "master",
        private: bool = False,
    ) -> str:
        """Replace the branch's content; returns the new commit."""
        found = self._repos.setdefault(repo, _Repo(private))
        before = found.branches.get(branch, "")
        seed = f"{repo} {branch} {len(found.commits)}"
        commit = hashlib.sha1(seed.encode()).hexdigest()
        old = found.commits.get(before, {})
        found.brought[commit] = {
            path: found.brought[before][path] if old.get(path) == content else commit
            for path, content in files.items()
        }
        found.commits[commit] = dict(files)
        found.branches[branch] = commit
        return commit

    def _at(self, request: web.Request) -> tuple[_Repo, str]:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in {"", TOKEN}:
            raise web.HTTPUnauthorized(text=json.dumps({"Code": 10010101005}))
        repo = self._repos.get(f"{request.match_info['owner']}/{request.match_info['name']}")
        if repo is None or (repo.private and token != TOKEN):
            status = web.HTTPNotFound if repo is None or token else web.HTTPForbidden
            raise status(text=json.dumps({"Code": 10010205001, "Success": False}))
        revision = request.query.get("Revision", "master")
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            raise web.HTTPNotFound(text=json.dumps({"Code": 10010205002, "Success": False}))
        return repo, commit

    async def _files(self, request: web.Request) -> web.Response:
        repo, commit = self._at(request)
        root = request.query.get("Root", "")
        below = f"{root}/" if root else ""
        entries: dict[str, dict[str, object]] = {}
        for path, content in repo.commits[commit].items():
            if not path.startswith(below):
                continue
            parts = path.removeprefix(below).split("/")
            for count in range(1, len(parts)):
                folder = below + "/".join(parts[:count])
                entries[f"{folder}/"] = {"Path": folder, "Type": "tree", "Size": 0, "Sha256": ""}
            entries[path] = {
                "Path": path,
                "Name": parts[-1],
                "Type": "blob",
                "Size": len(content),
                "Sha256": self.lies.get(path, hashlib.sha256(content).hexdigest()),
                "Revision": "master" if self.vague else repo.brought[commit][path],
            }
        if request.query.get("Recursive") != "True":
            entries = {
                path: one
                for path, one in entries.items()
                if "/" not in path[len(below) :].rstrip("/")
            }
        shown = list(entries.values())[: self.limit]
        return web.json_response({"Code": 200, "Success": True, "Data": {"Files": shown}})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        repo, commit = self._at(request)
        content = repo.commits[commit].get(request.query.get("FilePath", ""))
        if content is None:
            raise web.HTTPNotFound(text=json.dumps({"Code": 10010205003}))
        if len(content) < LARGE_BYTES:
            return _ranged(request, content)
        digest = hashlib.sha256(content).hexdigest()
        return web.Response(status=302, headers={"Location": f"{self.store.url}/{digest}?sig=x"})

    async def _content(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers or "Cookie" in request.headers:
            return web.Response(status=400, text="Only one auth mechanism allowed")
        for repo in self._repos.values():
            for files in repo.commits.values():
                for content in files.values():
                    if hashlib.sha256(content).hexdigest() == request.match_info["digest"]:
                        return _ranged(request, content)
        return web.Response(status=404)


def _ranged(request: web.Request, content: bytes) -> web.Response:
    wanted = request.http_range
    if wanted.start is None:
        return web.Response(body=content)
    stop = min(wanted.stop or len(content), len(content))
    shown = {"Content-Range": f"bytes {wanted.start}-{stop - 1}/{len(content)}"}
    return web.Response(status=206, body=content[wanted.start : stop], headers=shown)
