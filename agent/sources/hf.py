"""hf://: resolved to a commit and listed through huggingface_hub; bytes by plain ranges of `/resolve/<commit>/<path>`."""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

# Bytes never go through this library, and nothing of it may start its own chunked downloads.
os.environ["HF_HUB_DISABLE_XET"] = "1"

import httpx2
from huggingface_hub import HfApi, errors, get_token, hf_hub_url
from huggingface_hub.hf_api import RepoFile

from agent.daemons import Daemons
from agent.errors import FetchError, Retryable, Stalled
from agent.headers import file_size, retry_after
from agent.manifest import Algorithm, Digest, Manifest, RemoteFile
from agent.origin import SignedRequest
from agent.policy import Endpoint, SourcePolicy
from agent.sources import listing
from agent.sources.access import HubAccess, tls
from agent.sources.digests import from_hex
from agent.sources.failures import already_told, http_failure, unreachable
from agent.sources.hub_client import Caller, on_behalf
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

_DEFAULT_ENDPOINT = "https://huggingface.co"
# The library retries each page up to five times by itself; a tree of 10,000 files is ten pages.
_RESOLVE_SECONDS = 300.0
# The library blocks; more Hubs at a time than this wait their turn.
_POOL = Daemons(4, name="hub")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_T = TypeVar("_T")


class HfSource:
    """One model repository at one revision."""

    def __init__(self, uri: SourceUri, access: HubAccess, policy: SourcePolicy) -> None:
        self._uri = uri
        self._endpoint = (
            access.endpoint_url
            or policy.hf_endpoint
            or os.environ.get("HF_ENDPOINT")
            or _DEFAULT_ENDPOINT
        ).rstrip("/")
        self._tls = tls(access)
        self._token = None if access.anonymous else access.token or get_token()
        self._what = f"hf://{uri.repo}" + (f":{uri.revision}" if uri.revision else "")
        self._caller = Caller(policy, Endpoint.of(self._endpoint), self._tls)
        self._api = HfApi(
            endpoint=self._endpoint, token=self._token or False, library_name="localmodel"
        )

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """Pinned: the revision is a commit."""
        return await self._blocking(partial(self._resolve, revision or self._uri.revision))

    async def sign(self, file: RemoteFile) -> SignedRequest:
        commit = file.locator
        return SignedRequest(
            url=hf_hub_url(self._uri.repo, file.path, revision=commit, endpoint=self._endpoint),
            headers={"Authorization": f"Bearer {self._token}"} if self._token else {},
            expect={"x-repo-commit": commit},
            tls=self._tls,
        )

    async def close(self) -> None:
        """Nothing to release: connections belong to the library's one client."""

    def _resolve(self, revision: str | None) -> Manifest:
        info = self._api.model_info(self._uri.repo, revision=revision)
        commit = str(info.sha or "")
        if not _COMMIT.fullmatch(commit):
            raise Retryable(Reason.SOURCE_ERROR, f"{self._what}: the Hub names no commit")
        if info.gated:
            # Anybody may list a gated repository; only its files are kept from strangers.
            self._api.auth_check(self._uri.repo)
        tree = self._api.list_repo_tree(self._uri.repo, recursive=True, revision=commit)
        tally = listing.Tally(self._what)
        files = []
        for entry in tree:
            tally.add(str(entry.path))
            if isinstance(entry, RepoFile):
                files.append(_remote(entry, commit))
        return listing.manifest(self._uri.text, files, revision=commit, unpack=False)

    async def _blocking(self, work: Callable[[], _T]) -> _T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                return await loop.run_in_executor(
                    _POOL, on_behalf, self._caller, _RESOLVE_SECONDS, work
                )
        except Exception as exc:
            raise _translate(exc, self._what) from exc


def _remote(entry: RepoFile, commit: str) -> RemoteFile:
    """Large files are known by the SHA-256 of their content, small ones by the name that git gives their blob."""
    algorithm = Algorithm.GIT_SHA1 if entry.lfs is None else Algorithm.SHA256
    stated = entry.blob_id if entry.lfs is None else entry.lfs.sha256
    value = from_hex(algorithm, str(stated))
    size = file_size(entry.size if entry.lfs is None else entry.lfs.size)
    if value is None or size is None:
        raise ValueError("a file without a digest or a size")
    path = str(entry.path)
    return RemoteFile(
        path=path,
        size=size,
        validator=value,
        locator=commit,
        digests=(Digest(algorithm, value),),
    )


def _translate(exc: Exception, what: str) -> FetchError:
    told = already_told(exc)
    if told is not None:
        return told
    match exc:
        case errors.GatedRepoError():
            return Stalled(
                Reason.ACCESS_DENIED,
                f"{what} is gated: its terms must be accepted by the account whose token is used",
            )
        case errors.RevisionNotFoundError():
            return Stalled(Reason.SOURCE_NOT_FOUND, f"{what}: there is no such revision")
        case errors.RepositoryNotFoundError() if exc.response.status_code == 401:
            # The Hub does not tell strangers which repositories exist.
            return Stalled(
                Reason.ACCESS_DENIED,
                f"{what} does not exist, or is private and needs another token",
            )
        case errors.RepositoryNotFoundError() | errors.EntryNotFoundError():
            return Stalled(Reason.SOURCE_NOT_FOUND, f"{what} does not exist")
        case errors.DisabledRepoError():
            return Stalled(Reason.ACCESS_DENIED, f"{what} is disabled by the Hub")
        case errors.HfHubHTTPError():
            headers: Mapping[str, str] = exc.response.headers
            return http_failure(exc.response.status_code, what, after=retry_after(headers))
        case httpx2.HTTPStatusError():
            headers = exc.response.headers
            return http_failure(exc.response.status_code, what, after=retry_after(headers))
        case errors.HFValidationError():
            return Stalled(Reason.INVALID_SOURCE, f"{what}: not a repository's name")
        case httpx2.TimeoutException() | TimeoutError():
            return unreachable(what, "the Hub did not answer in time")
        case httpx2.HTTPError() | httpx2.InvalidURL() | OSError():
            return unreachable(what, "no connection to the Hub")
        case _:
            return Retryable(
                Reason.SOURCE_ERROR,
                f"{what}: the Hub does not answer as expected ({type(exc).__name__})",
            )
