"""modelscope://: listed through the hub's HTTP API, which states the SHA-256 of every file; bytes by plain ranges."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from agent.errors import Retryable, Stalled
from agent.headers import file_size
from agent.manifest import Algorithm, Digest, Manifest, RemoteFile, safe_path
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources import listing
from agent.sources.access import HubAccess, tls
from agent.sources.digests import from_hex
from agent.sources.json_answer import parsed_object
from agent.sources.web import Web
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

_DEFAULT_ENDPOINT = "https://modelscope.cn"
_DEFAULT_REVISION = "master"
# The hub cuts a listing off there without a word, and knows no pages: what is longer is asked for folder by folder.
_CUT_OFF = 3000
# A repository that needs more is none that anybody serves.
_MOST_LISTINGS = 2000
_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9._@+=/-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class ModelScopeSource:
    """One model repository at one revision."""

    def __init__(self, uri: SourceUri, access: HubAccess, policy: SourcePolicy) -> None:
        self._uri = uri
        name, colon, revision = f"{uri.authority}{uri.path}".partition(":")
        if not _REPO.fullmatch(name) or (colon and not _REVISION.fullmatch(revision)):
            raise Stalled(
                Reason.INVALID_SOURCE,
                "the URI must be modelscope://owner/model or modelscope://owner/model:revision",
            )
        own = os.environ.get("MODELSCOPE_API_TOKEN")
        named = os.environ.get("MODELSCOPE_ENDPOINT", _DEFAULT_ENDPOINT)
        endpoint = (access.endpoint_url or named).rstrip("/")
        self._base = f"{endpoint}/api/v1/models/{name}/repo"
        self._revision = revision or _DEFAULT_REVISION
        self._token = None if access.anonymous else access.token or own
        self._what = f"modelscope://{name}" + (f":{revision}" if revision else "")
        self._tls = tls(access)
        self._web = Web(policy, self._tls)

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """Not pinned: the hub names commits of files, not of listings. The revision digests names and SHA-256."""
        found: dict[str, RemoteFile] = {}
        tally = listing.Tally(self._what)
        folders = [""]
        listings = 0
        while folders:
            folder = folders.pop()
            listings += 2
            if listings > _MOST_LISTINGS:
                raise Stalled(Reason.INVALID_SOURCE, f"{self._what} has too many folders to list")
            entries = await self._entries(folder, recursive=True)
            if len(entries) >= _CUT_OFF:
                entries = await self._entries(folder, recursive=False)
                if len(entries) >= _CUT_OFF:
                    raise Stalled(
                        Reason.INVALID_SOURCE,
                        f"{self._what}: folder {folder!r} has more files than the hub lists",
                    )
                folders += [self._path(one) for one in entries if one.get("Type") == "tree"]
            for one in entries:
                path = self._path(one)
                tally.add(path)
                if one.get("Type") != "tree":
                    found[path] = self._remote(path, one)
        return listing.manifest(self._uri.text, found.values(), unpack=False)

    async def sign(self, file: RemoteFile) -> SignedRequest:
        revision, _, path = file.locator.partition(" ")
        return SignedRequest(
            url=f"{self._base}?{urlencode({'Revision': revision, 'FilePath': path}, quote_via=quote)}",
            headers=self._headers(),
            tls=self._tls,
        )

    async def close(self) -> None:
        await self._web.close()

    async def _entries(self, folder: str, *, recursive: bool) -> list[Mapping[str, Any]]:
        query = {"Revision": self._revision, "Recursive": str(recursive)}
        if folder:
            query["Root"] = folder
        answer = await self._web.request(
            "GET",
            f"{self._base}/files?{urlencode(query, quote_via=quote)}",
            what=self._what,
            headers=self._headers(),
        )
        data = (parsed_object(answer.body) or {}).get("Data")
        files = data.get("Files") if isinstance(data, dict) else data
        if not isinstance(files, list) or not all(isinstance(one, dict) for one in files):
            raise Retryable(
                Reason.SOURCE_ERROR, f"{self._what}: the hub does not answer as ModelScope does"
            )
        return files

    def _path(self, entry: Mapping[str, Any]) -> str:
        return safe_path(str(entry.get("Path") or ""))

    def _remote(self, path: str, entry: Mapping[str, Any]) -> RemoteFile:
        """A file is asked for at the commit that brought it, so that a moved branch does not mix two versions."""
        sha256 = from_hex(Algorithm.SHA256, str(entry.get("Sha256") or ""))
        named = str(entry.get("Revision") or "")
        # A branch or a tag in its place would tell no version.
        commit = named if _COMMIT.fullmatch(named) else ""
        return RemoteFile(
            path=path,
            size=file_size(entry.get("Size")),
            validator=sha256 or commit,
            locator=f"{commit or self._revision} {path}",
            digests=() if sha256 is None else (Digest(Algorithm.SHA256, sha256),),
        )

    def _headers(self) -> Mapping[str, str]:
        """The hub's older interfaces take the token as a cookie, the newer ones as a bearer."""
        if self._token is None:
            return {}
        return {
            "Authorization": f"Bearer {self._token}",
            "Cookie": f"m_session_id={self._token}",
        }
