"""git's own HTTP backend over real repositories, with a server of git-lfs beside it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from tests.support.processes import scratch
from tests.support.servers.threaded import Fault, ThreadedApp

USER, PASSWORD = "reader", "canary-git-password"
_LFS_TOKEN = "canary-lfs-token"
_IDENTITY = {
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@example.com",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


class GitServer(contextlib.ExitStack):
    """`with GitServer() as git:` — `git.url` serves `org/name.git`; below `private/` only to USER.

    lies: what the store of git-lfs sends instead, by SHA-256.
    """

    def __init__(self) -> None:
        super().__init__()
        self.http = ThreadedApp("git")
        self.store = ThreadedApp("git-lfs")
        self.lies: dict[str, bytes] = {}
        self._large: dict[str, bytes] = {}
        self.http.app.router.add_post("/{repo:.+}/info/lfs/objects/batch", self._batch)
        self.http.app.router.add_route("*", "/{path:.+}", self._backend)
        self.store.app.router.add_get("/{digest}", self._content)

    def __enter__(self) -> GitServer:
        super().__enter__()
        self._folder = self.enter_context(scratch("git"))
        for server in (self.http, self.store):
            self.callback(server.stop)
            server.start()
        return self

    @property
    def url(self) -> str:
        return self.http.url

    def fail(self, fault: Fault | None) -> None:
        self.http.fault = fault

    def commit(
        self,
        repo: str,
        files: Mapping[str, bytes],
        *,
        links: Mapping[str, str] | None = None,
        tag: str | None = None,
    ) -> str:
        """The branch `main` with exactly these files on top of what was there; returns the commit."""
        work = self._folder / "work" / repo
        bare = self._folder / "repos" / f"{repo}.git"
        if not work.exists():
            work.mkdir(parents=True)
            self._git(work, "init", "--quiet", "--initial-branch=main")
            bare.mkdir(parents=True)
            self._git(bare, "init", "--quiet", "--bare", "--initial-branch=main")
            (bare / "git-daemon-export-ok").touch()
        else:
            self._git(work, "rm", "-r", "-q", "--ignore-unmatch", ".")
        for name, content in files.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for name, target in (links or {}).items():
            (work / name).symlink_to(target)
        self._git(work, "add", "--all", "--force")
        self._git(work, "commit", "--quiet", "--allow-empty", "-m", "c")
        if tag is not None:
            self._git(work, "tag", "-a", tag, "-m", "t")
        self._git(work, "push", "--quiet", "--force", "--tags", str(bare), "main")
        self._git(bare, "repack", "-adq")
        return self._git(work, "rev-parse", "HEAD").strip()

    def commit_tree(self, repo: str, entries: list[tuple[str, str, bytes]]) -> str:
        """A commit whose only folder has these entries (mode, name, content), however impossible their names."""
        bare = self._folder / "repos" / f"{repo}.git"
        tree = b""
        for mode, name, content in sorted(entries, key=lambda entry: entry[1]):
            blob = self._object(bare, "blob", content)
            tree += f"{mode} {name}\0".encode() + bytes.fromhex(blob)
        made = self._object(bare, "tree", tree)
        commit = self._git(bare, "commit-tree", made, "-m", "evil").strip()
        self._git(bare, "update-ref", "refs/heads/main", commit)
        return commit

    def keep_large(self, content: bytes) -> bytes:
        """Puts the content where git-lfs keeps it; returns the pointer that is committed instead."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._large[sha256] = content
        return (
            "version https://git-lfs.github.com/spec/v1\n"
            f"oid sha256:{sha256}\nsize {len(content)}\n"
        ).encode()

    def _object(self, bare: Path, kind: str, data: bytes) -> str:
        return self._git(
            bare, "hash-object", "-w", "--literally", "-t", kind, "--stdin", given=data
        ).strip()

    def _git(self, folder: Path, *arguments: str, given: bytes = b"") -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            input=given,
            capture_output=True,
            check=True,
            timeout=60,
            env={**os.environ, **_IDENTITY},
        )
        return done.stdout.decode()

    def _check(self, request: web.Request, path: str) -> None:
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        said = request.headers.get("Authorization")
        if said != f"Basic {pair}" and (said is not None or path.startswith("private/")):
            raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="git"'})

    async def _backend(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        self._check(request, path)
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self._folder / "repos"),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "PATH_INFO": f"/{path}",
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        body = await request.read()
        done = await asyncio.to_thread(
            subprocess.run,
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            timeout=60,
            env={**environment, **_IDENTITY},
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=headers, body=content)

    async def _batch(self, request: web.Request) -> web.Response:
        self._check(request, request.match_info["repo"])
        objects: list[dict[str, object]] = []
        for one in (await request.json())["objects"]:
            if one["oid"] in self._large:
                download = {
                    "href": f"{self.store.url}/{one['oid']}?signature=x",
                    "header": {"X-Lfs": _LFS_TOKEN},
                    "expires_in": 3600,
                }
                objects.append({**one, "actions": {"download": download}})
            else:
                objects.append({**one, "error": {"code": 404, "message": "gone"}})
        return web.json_response({"transfer": "basic", "objects": objects})

    async def _content(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        if "Authorization" in request.headers or request.headers.get("X-Lfs") != _LFS_TOKEN:
            return web.Response(status=403)
        content = self.lies.get(digest) or self._large[digest]
        wanted = request.http_range
        if wanted.start is None:
            return web.Response(body=content)
        stop = min(wanted.stop or len(content), len(content))
        shown = {"Content-Range": f"bytes {wanted.start}-{stop - 1}/{len(content)}"}
        return web.Response(status=206, body=content[wanted.start : stop], headers=shown)
