"""s3://: listed and signed through s3fs and aiobotocore; works with AWS and whatever speaks its protocol."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiobotocore.credentials import AioCredentials
from s3fs import S3FileSystem

from agent.daemons import aside
from agent.errors import Retryable, SourceChanged, Stalled
from agent.headers import file_size, sendable
from agent.manifest import Manifest, RemoteFile
from agent.origin import SignedRequest
from agent.policy import Endpoint, SourcePolicy
from agent.sources import listing
from agent.sources.access import S3Access, tls
from agent.sources.addresses import GuardedResolver, check_host
from agent.sources.s3_checksums import CHECKSUM_MODE, object_digests
from agent.sources.s3_errors import translate
from agent.sources.s3_session import new_session
from agent.sources.s3_signing import Presigner
from agent.sources.web import Web
from agent.tls import Tls
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

_CALL_SECONDS = 60.0
# One HEAD each, for digests. Of many small files only the first ones, and no tiny ones, whose HEAD takes as long as they
# do: the others state theirs in the answer that brings them, which a large file, in parts, cannot do.
_MOST_HEADS = 1000
_MOST_SMALL_HEADS = 100
_SMALL_BYTES = 1 << 20
_TINY_BYTES = 64 << 10
_HEADS_AT_ONCE = 32


class S3Source:
    """One bucket and key or prefix."""

    def __init__(self, uri: SourceUri, access: S3Access, policy: SourcePolicy) -> None:
        self._uri = uri
        self._access = access
        self._policy = policy
        self._tls = _tls(access)
        self._what = f"s3://{uri.bucket}/{uri.key}".rstrip("/")
        self._web = Web(policy, self._tls)
        self._client: Any = None
        self._creator: Any = None
        self._presigner: Presigner
        self._opening = asyncio.Lock()

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """Never pinned: S3 names no state of a prefix. The revision is the listing's digest."""
        client = await self._open()
        files = [file async for file in self._list(client)]
        found = listing.manifest(self._uri.text, files)
        return replace(found, files=await self._with_digests(found.files))

    async def sign(self, file: RemoteFile) -> SignedRequest:
        if self._client is None:
            await self._open()
        pin = {"If-Match": file.validator} if file.validator else {}
        signed = {} if file.digests else CHECKSUM_MODE
        return SignedRequest(
            url=await self._presigned("GET", file.locator, headers=signed),
            headers={**pin, **signed},
            expect={"etag": file.validator} if pin else {},
            states=None if file.digests else object_digests,
            expires_in=self._presigner.valid_seconds,
            tls=self._tls,
        )

    async def close(self) -> None:
        await self._web.close()
        creator, self._creator, self._client = self._creator, None, None
        if creator is not None:
            await creator.__aexit__(None, None, None)

    async def _list(self, client: Any) -> AsyncIterator[RemoteFile]:
        """Files below the key taken as a folder; when there is nothing at all, the object of that very key."""
        prefix = f"{self._uri.key}/" if self._uri.key else ""
        tally = listing.Tally(self._what)
        any_key = False
        async for entry in self._entries(client, prefix):
            tally.add(entry["Key"])
            any_key = True
            if not entry["Key"].endswith("/"):
                yield _remote(entry, listing.path_below(prefix, entry["Key"]))
        if any_key or not self._uri.key:
            return
        name = self._uri.key.rpartition("/")[2]
        # An object is listed before all longer keys that begin with its own.
        async for entry in self._entries(client, self._uri.key, limit=1):
            if entry["Key"] == self._uri.key:
                yield _remote(entry, name)
                return
        raise Stalled(Reason.SOURCE_NOT_FOUND, f"there is nothing at {self._what}")

    async def _entries(
        self, client: Any, prefix: str, *, limit: int = 1000
    ) -> AsyncIterator[Mapping[str, Any]]:
        token: str | None = None
        while True:
            arguments: dict[str, Any] = {
                "Bucket": self._uri.bucket,
                "Prefix": prefix,
                "MaxKeys": limit,
            }
            if token is not None:
                arguments["ContinuationToken"] = token
            page = await self._call(client, "list_objects_v2", arguments)
            for entry in page.get("Contents", ()):
                if not isinstance(entry.get("Key"), str) or file_size(entry.get("Size")) is None:
                    raise Retryable(
                        Reason.SOURCE_ERROR,
                        f"{self._what}: the endpoint does not answer as S3 does",
                    )
                yield entry
            following = page.get("NextContinuationToken")
            if limit < 1000 or not page.get("IsTruncated") or following in {None, token}:
                return
            token = following

    async def _with_digests(self, files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
        """The same files with the digests that HEAD tells, largest first, so that most bytes are guarded best."""
        by_size = sorted((f for f in files if f.size), key=lambda f: f.size or 0, reverse=True)
        large = sum((file.size or 0) > _SMALL_BYTES for file in by_size)
        if len(by_size) - large > _MOST_SMALL_HEADS:
            by_size = [file for file in by_size if (file.size or 0) > _TINY_BYTES]
        asked = by_size[: min(_MOST_HEADS, large + _MOST_SMALL_HEADS)]
        gate = asyncio.Semaphore(_HEADS_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._head(file, gate), name=f"head {file.path}")
                    for file in asked
                ]
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        known = {task.result().path: task.result() for task in tasks}
        return tuple(known.get(file.path, file) for file in files)

    async def _head(self, file: RemoteFile, gate: asyncio.Semaphore) -> RemoteFile:
        what = f"s3://{self._uri.bucket}/{file.locator}"
        async with gate:
            url = await self._presigned("HEAD", file.locator, headers=CHECKSUM_MODE)
            answer = await self._web.request(
                "HEAD",
                url,
                what=what,
                headers=CHECKSUM_MODE,
                accept=frozenset({200, 404}),
                read=False,
            )
        if answer.status == 404:
            raise SourceChanged(f"{what} was deleted while it was listed")
        if answer.headers.get("ETag", file.validator) != file.validator:
            raise SourceChanged(f"{what} changed while it was listed")
        return replace(file, digests=object_digests(answer.headers))

    async def _presigned(
        self, method: str, key: str, *, headers: Mapping[str, str] | None = None
    ) -> str:
        try:
            return await self._presigner.url(method, key, headers=headers)
        except Exception as exc:
            raise translate(exc, self._what) from exc

    async def _call(
        self, client: Any, operation: str, arguments: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                answer: Mapping[str, Any] = await getattr(client, operation)(**arguments)
                return answer
        except Exception as exc:
            raise translate(exc, self._what) from exc

    async def _open(self) -> Any:
        async with self._opening:
            if self._client is None:
                try:
                    async with asyncio.timeout(_CALL_SECONDS):
                        await aside(lambda _: self._check_endpoint())
                        self._client = await self._connect()
                except Exception as exc:
                    raise translate(exc, self._what) from exc
            return self._client

    def _check_endpoint(self) -> None:
        """Literal addresses never reach the resolver, and botocore would try a refused name three times."""
        url = self._access.endpoint_url
        if url is not None:
            endpoint = Endpoint.of(url)
            if self._policy.proxy(url) is None:
                check_host(self._policy, endpoint.host, endpoint.port)
            else:
                self._policy.check_literal(endpoint.host)

    async def _connect(self) -> Any:
        access = self._access
        session = new_session(self._tls)
        credentials: Any = None
        if access.secret:
            credentials = AioCredentials(
                access.access_key_id, access.secret_access_key, access.session_token
            )
        elif not access.anonymous:
            credentials = await session.get_credentials()
        fs = S3FileSystem(
            asynchronous=True,
            skip_instance_cache=True,
            use_listings_cache=False,
            session=session,
            anon=credentials is None,
            key=access.access_key_id,
            secret=access.secret_access_key,
            token=access.session_token,
            endpoint_url=access.endpoint_url,
            cache_regions=access.endpoint_url is None and access.region is None,
            client_kwargs=self._client_options(),
            config_kwargs=self._config(),
        )
        await fs.set_session()
        # An asynchronous S3FileSystem leaves the closing of its clients to others, and has no public name for them.
        self._creator = fs._s3creator
        client = await fs.get_s3(self._uri.bucket)
        self._presigner = await Presigner.of(client, self._uri.bucket, credentials)
        return client

    def _config(self) -> dict[str, Any]:
        access = self._access
        path_style = access.path_style
        if path_style is None:
            path_style = access.endpoint_url is not None
        return {
            "connect_timeout": 10,
            "read_timeout": 30,
            # The agent has its own backoff, which people can see.
            "retries": {"mode": "standard", "total_max_attempts": 3},
            "max_pool_connections": _HEADS_AT_ONCE,
            "signature_version": "s3v4",
            "s3": {"addressing_style": "path" if path_style else "auto"},
            "connector_args": {"resolver": GuardedResolver(self._policy)},
            "proxies": self._proxies(),
        }

    def _proxies(self) -> dict[str, str] | None:
        """botocore's own reading of NO_PROXY knows no networks, and only endpoints of one's own are addresses."""
        url = self._access.endpoint_url
        if url is None:
            return None
        found = self._policy.proxy(url)
        return {} if found is None else {Endpoint.of(url).scheme: found}

    def _client_options(self) -> dict[str, Any]:
        """Only what is set: s3fs adds the region that it found itself."""
        # Other stores do not care for the region, but a signature must name one.
        region = self._access.region or ("us-east-1" if self._access.endpoint_url else None)
        # False has to be told; what else is trusted, the session knows.
        verify = None if self._tls.verify else False
        options = {"region_name": region, "verify": verify}
        return {name: value for name, value in options.items() if value is not None}


def _tls(access: S3Access) -> Tls:
    """AWS_CA_BUNDLE as AWS's own tools read it, where nothing else is said, but for the bytes too."""
    found = tls(access)
    return replace(found, ca_bundle=found.ca_bundle or os.environ.get("AWS_CA_BUNDLE") or None)


def _remote(entry: Mapping[str, Any], path: str) -> RemoteFile:
    etag = entry.get("ETag", "")
    return RemoteFile(
        path=path,
        size=entry["Size"],
        validator=etag if sendable(etag) else "",
        locator=entry["Key"],
    )


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    return errors
