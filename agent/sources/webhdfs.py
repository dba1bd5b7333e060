"""webhdfs://: listed by the name node's REST interface; bytes from the data nodes that it redirects to."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.headers import file_size
from agent.manifest import Algorithm, Digest, Manifest, RemoteFile, safe_path
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources import listing
from agent.sources.access import HdfsAccess, tls
from agent.sources.digests import from_hex
from agent.sources.failures import http_failure, listed
from agent.sources.json_answer import parsed_object
from agent.sources.web import Answer, Web
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

# Folders are listed one by one; the name node is one process that many share.
_LISTINGS_AT_ONCE = 8
_MOST_FOLDERS = 10_000
# Each reads checksums from all blocks of a file: the largest ones, which hold most bytes.
_MOST_CHECKSUMS = 200
# Composite checksums are those of the file's bytes; the default, MD5 of MD5 of CRCs of blocks, names no content.
_COMPOSITE = {"COMPOSITE-CRC32C": Algorithm.CRC32C, "COMPOSITE-CRC32": Algorithm.CRC32}
# So often a file is looked at again while it is fetched: WebHDFS has no condition that a read could carry.
_LOOK_SECONDS = 30.0


class WebHdfsSource:
    """One file, or all files below a folder."""

    def __init__(self, uri: SourceUri, access: HdfsAccess, policy: SourcePolicy) -> None:
        self._uri = uri
        if access.unsupported is not None:
            raise Stalled(
                Reason.CREDENTIALS_INVALID,
                f"{access.unsupported}: Kerberos and TLS client certificates are not supported; "
                "HDFS_DELEGATION_TOKEN takes a delegation token",
            )
        self._nodes, path = _place(uri, access, policy)
        self._root = path.rstrip("/") or "/"
        self._what = f"{uri.scheme}://{urlsplit(self._nodes[0]).netloc}{self._root}"
        self._headers = {} if access.anonymous else dict(access.headers or {})
        self._secret = frozenset(name.lower() for name in self._headers)
        secret = {} if access.anonymous else {"delegation": access.delegation}
        who = {**secret, "user.name": None if access.delegation else access.user}
        self._query = {name: value for name, value in who.items() if value}
        self._tls = tls(access)
        self._web = Web(policy, self._tls)

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """Never pinned. The revision digests names, sizes, times of change and file ids."""
        top = await self._status(self._root)
        if top.get("type") == "FILE":
            name = safe_path(self._root.rpartition("/")[2])
            files = [_remote(top, name, self._root)]
        else:
            files = await self._walk()
        found = listing.manifest(self._uri.text, files)
        return replace(found, files=await self._with_checksums(found.files))

    async def sign(self, file: RemoteFile) -> SignedRequest:
        """Raises SourceChanged for a file that is not the listed one any more."""
        with listed(f"{self._what}: {file.path}"):
            status = await self._status(file.locator)
        if _validator(status) != file.validator:
            raise SourceChanged(f"{self._what}: {file.path} changed at its source")
        return SignedRequest(
            url=self._url(file.locator, "OPEN", {}),
            window=lambda start, end: self._url(
                file.locator, "OPEN", {"offset": str(start), "length": str(end - start)}
            ),
            headers=self._headers,
            secret_headers=self._secret,
            expires_in=_LOOK_SECONDS,
            watched=True,
            tls=self._tls,
        )

    async def close(self) -> None:
        await self._web.close()

    async def _walk(self) -> list[RemoteFile]:
        files: list[RemoteFile] = []
        gate = asyncio.Semaphore(_LISTINGS_AT_ONCE)
        tally = listing.Tally(self._what)
        level = [""]
        seen = 0
        while level:
            seen += len(level)
            if seen > _MOST_FOLDERS:
                raise Stalled(Reason.INVALID_SOURCE, f"{self._what} has too many folders to list")
            following: list[str] = []
            for folder, entries in zip(
                level, await self._list_all(level, gate, tally), strict=True
            ):
                for entry in entries:
                    path = safe_path(f"{folder}{entry.get('pathSuffix') or ''}")
                    if entry.get("type") == "DIRECTORY":
                        following.append(f"{path}/")
                    elif entry.get("type") == "FILE":
                        place = f"{self._root.rstrip('/')}/{path}"
                        files.append(_remote(entry, path, place))
                    else:
                        raise Stalled(
                            Reason.UNSAFE_PATH, f"entry {path!r} is neither a file nor a folder"
                        )
            level = following
        return files

    async def _list_all(
        self, folders: list[str], gate: asyncio.Semaphore, tally: listing.Tally
    ) -> list[list[Mapping[str, Any]]]:
        async def one(folder: str) -> list[Mapping[str, Any]]:
            async with gate:
                place = f"{self._root.rstrip('/')}/{folder}".rstrip("/") or "/"
                page = await self._ask(place, "LISTSTATUS")
            found = _inner(page, "FileStatuses").get("FileStatus")
            if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
                raise self._strange()
            for entry in found:
                tally.add(f"{folder}{entry.get('pathSuffix') or ''}")
            return found

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(one(folder), name=f"list {folder}") for folder in folders
                ]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return [task.result() for task in tasks]

    async def _status(self, path: str) -> Mapping[str, Any]:
        found = _inner(await self._ask(path, "GETFILESTATUS"), "FileStatus")
        if not found:
            raise self._strange()
        return found

    async def _with_checksums(self, files: tuple[RemoteFile, ...]) -> tuple[RemoteFile, ...]:
        """The same with composite checksums, where the cluster computes these; else they are verified by size alone."""
        by_size = sorted((file for file in files if file.size), key=lambda file: -(file.size or 0))
        known: dict[str, RemoteFile] = {}
        for file in by_size[:_MOST_CHECKSUMS]:
            digest = await self._checksum(file)
            if digest is None:
                break
            known[file.path] = replace(file, digests=(digest,))
        return tuple(known.get(file.path, file) for file in files)

    async def _checksum(self, file: RemoteFile) -> Digest | None:
        try:
            answer = await self._request(file.locator, "GETFILECHECKSUM", frozenset({200}))
            found = _inner(self._parse(answer), "FileChecksum")
        except (Stalled, Retryable):
            return None
        algorithm = _COMPOSITE.get(str(found.get("algorithm")))
        if algorithm is None:
            return None
        value = from_hex(algorithm, str(found.get("bytes"))[:8])
        return None if value is None else Digest(algorithm, value)

    async def _ask(self, path: str, operation: str) -> Mapping[str, Any]:
        answer = await self._request(path, operation, frozenset({200, 401, 403, 404}))
        if answer.status == 200:
            return self._parse(answer)
        raise self._refusal(answer)

    async def _request(self, path: str, operation: str, accept: frozenset[int]) -> Answer:
        """From the active name node: one that stands by says so, or does not answer."""
        failed: FetchError | None = None
        for _ in range(len(self._nodes)):
            try:
                answer = await self._web.request(
                    "GET",
                    self._url(path, operation, {}),
                    what=self._what,
                    headers=self._headers,
                    secret=self._secret,
                    accept=accept,
                )
                if not _stands_by(answer):
                    return answer
                failed = Retryable(
                    Reason.SOURCE_UNREACHABLE, f"{self._what}: no name node is active"
                )
            except Retryable as exc:
                failed = exc
            self._nodes = (*self._nodes[1:], self._nodes[0])
        raise failed or self._strange()

    def _refusal(self, answer: Answer) -> FetchError:
        """The name node answers 403 also to what it cannot do; its exception says which it is."""
        try:
            kind = str(_inner(self._parse(answer), "RemoteException").get("exception"))
        except Retryable:
            kind = ""
        if kind in {"AccessControlException", "SecurityException", "InvalidToken"}:
            return Stalled(Reason.ACCESS_DENIED, f"access to {self._what} is denied ({kind})")
        if kind == "FileNotFoundException":
            return http_failure(404, self._what)
        return http_failure(answer.status, self._what)

    def _parse(self, answer: Answer) -> Mapping[str, Any]:
        page = parsed_object(answer.body)
        if page is None:
            raise self._strange()
        return page

    def _strange(self) -> Retryable:
        return Retryable(
            Reason.SOURCE_ERROR, f"{self._what}: the endpoint does not answer as WebHDFS does"
        )

    def _url(self, path: str, operation: str, more: Mapping[str, str]) -> str:
        query = urlencode({"op": operation, **self._query, **more})
        return f"{self._nodes[0]}/webhdfs/v1{quote(path, safe='/~')}?{query}"


def _place(uri: SourceUri, access: HdfsAccess, policy: SourcePolicy) -> tuple[tuple[str, ...], str]:
    """The name nodes' URLs, and the path there.

    With a name node in the credentials the whole URI is a path, as KServe takes it, unless it names that node itself.
    """
    path = f"/{uri.authority}{uri.path}"
    if access.endpoint_url is not None:
        nodes = (access.endpoint_url, *(access.standby or ()))
        if uri.authority.lower() in {urlsplit(node).netloc.lower() for node in nodes}:
            path = uri.path or "/"
        root = (access.root or "").strip("/")
        return nodes, f"/{root}{path}" if root else path
    if uri.scheme == "hdfs":
        raise Stalled(
            Reason.INVALID_SOURCE,
            "hdfs:// is read through WebHDFS: the credentials must name HDFS_NAMENODE, or the URI must be webhdfs://host:port/path",
        )
    node = f"{'https' if uri.scheme == 'swebhdfs' else 'http'}://{uri.authority}"
    if access.secret and not policy.may_receive_credentials(node):
        raise Stalled(
            Reason.SOURCE_NOT_ALLOWED,
            f"stored credentials do not go to {uri.authority}: HDFS_NAMENODE must name it, "
            "or an admin lists it in credential_endpoints",
        )
    return (node,), uri.path or "/"


def _remote(status: Mapping[str, Any], path: str, place: str) -> RemoteFile:
    return RemoteFile(
        path=path,
        size=file_size(status.get("length")),
        validator=_validator(status),
        locator=place,
    )


def _validator(status: Mapping[str, Any]) -> str:
    return "-".join(str(status.get(key)) for key in ("fileId", "length", "modificationTime"))


def _inner(page: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = page.get(name)
    return found if isinstance(found, dict) else {}


def _stands_by(answer: Answer) -> bool:
    return answer.status == 403 and b"StandbyException" in answer.body
