"""gs://: credentials and endpoint by gcsfs, listing and media by the JSON API.

The listing's pages are asked for here and not by gcsfs, which would retry for half a minute unseen, lose what the service
said about when to come back, and reach addresses that the policy refuses.
"""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

# Otherwise gcsfs asks gRPC first, which against an emulator means a minute of waiting.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
# The process's own identity is asked for through requests, which has a name of its own for whom the system trusts.
if os.environ.get("SSL_CERT_FILE"):
    os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"]

from gcsfs import GCSFileSystem
from google.auth import exceptions as google
from google.oauth2 import credentials as oauth2
from google.oauth2 import service_account

from agent.daemons import aside
from agent.errors import FetchError, Retryable, Stalled
from agent.headers import byte_count
from agent.manifest import Algorithm, Digest, Manifest, RemoteFile
from agent.origin import SignedRequest
from agent.policy import Endpoint, SourcePolicy
from agent.sources import listing
from agent.sources.access import GcsAccess, login_tls, tls
from agent.sources.digests import from_base64
from agent.sources.failures import already_told, unreachable
from agent.sources.gs_tokens import TokenRequests
from agent.sources.json_answer import parsed_object
from agent.sources.web import Web
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_FIELDS = "items(name,size,generation,crc32c,md5Hash,contentEncoding),nextPageToken"
_PAGE = 1000
# Looking for the process's own identity asks the metadata server, which may not be there.
_IDENTITY_SECONDS = 60.0
# A token is renewed this long before it ends, and its requests are signed anew a little before that.
_RENEW_SECONDS = 600.0
_LEAST_SECONDS = 60.0


class GcsSource:
    """One bucket and object name or prefix."""

    def __init__(self, uri: SourceUri, access: GcsAccess, policy: SourcePolicy) -> None:
        self._uri = uri
        self._access = access
        self._policy = policy
        self._tls = tls(access)
        self._what = f"gs://{uri.bucket}/{uri.key}".rstrip("/")
        self._web = Web(policy, self._tls)
        self._tokens = Web(policy, login_tls(access))
        self._fs: Any = None
        self._named = False
        self._headers: Mapping[str, str] = {}
        self._good_until = -math.inf
        self._opening = asyncio.Lock()

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """Never pinned: a prefix has no state of its own. The revision digests names, sizes and generations."""
        found = listing.manifest(self._uri.text, [file async for file in self._list()])
        await self._check_readable(found.files[0])
        return found

    async def sign(self, file: RemoteFile) -> SignedRequest:
        """A media URL that fails with 412 once the object has another generation."""
        headers, expires_in = await self._authorize()
        query = urlencode({"alt": "media", "ifGenerationMatch": file.validator})
        location = self._fs.base.removesuffix("/storage/v1/")
        return SignedRequest(
            url=f"{location}/download/storage/v1/b/{quote(self._uri.bucket, safe='')}"
            f"/o/{quote(file.locator, safe='')}?{query}",
            headers=headers,
            expect={"x-goog-generation": file.validator},
            expires_in=expires_in,
            tls=self._tls,
        )

    async def close(self) -> None:
        await self._web.close()
        await self._tokens.close()

    async def _list(self) -> AsyncIterator[RemoteFile]:
        """Files below the key taken as a folder; when there is nothing at all, the object of that very name."""
        prefix = f"{self._uri.key}/" if self._uri.key else ""
        tally = listing.Tally(self._what)
        any_name = False
        async for item in self._items(prefix):
            tally.add(item["name"])
            any_name = True
            if not item["name"].endswith("/"):
                yield _remote(item, listing.path_below(prefix, item["name"]))
        if any_name or not self._uri.key:
            return
        name = self._uri.key.rpartition("/")[2]
        # An object is listed before all longer names that begin with its own.
        async for item in self._items(self._uri.key, limit=1):
            if item["name"] == self._uri.key:
                yield _remote(item, name)
                return
        raise Stalled(Reason.SOURCE_NOT_FOUND, f"there is nothing at {self._what}")

    async def _items(self, prefix: str, *, limit: int = _PAGE) -> AsyncIterator[Mapping[str, Any]]:
        token: str | None = None
        while True:
            headers, _ = await self._authorize()
            query = {"prefix": prefix, "maxResults": str(limit), "fields": _FIELDS}
            if token is not None:
                query["pageToken"] = token
            answer = await self._web.request(
                "GET",
                f"{self._fs.base}b/{quote(self._uri.bucket, safe='')}/o?{urlencode(query)}",
                what=self._what,
                headers=headers,
            )
            page = self._parse(answer.body)
            for item in page.get("items", ()):
                yield item
            following = page.get("nextPageToken")
            if limit < _PAGE or not following or following == token:
                return
            token = following

    async def _check_readable(self, file: RemoteFile) -> None:
        """Who may list may still not read; one object's metadata takes the same right as its content."""
        headers, _ = await self._authorize()
        await self._web.request(
            "GET",
            f"{self._fs.base}b/{quote(self._uri.bucket, safe='')}/o/{quote(file.locator, safe='')}"
            "?fields=generation",
            what=self._what,
            headers=headers,
        )

    def _parse(self, body: bytes) -> Mapping[str, Any]:
        page = parsed_object(body)
        if page is None:
            raise self._strange()
        items, token = page.get("items", []), page.get("nextPageToken", "")
        if not isinstance(items, list) or not isinstance(token, str) or not token.isascii():
            raise self._strange()
        if not all(isinstance(one, dict) and _is_item(one) for one in items):
            raise self._strange()
        return page

    def _strange(self) -> Retryable:
        return Retryable(
            Reason.SOURCE_ERROR, f"{self._what}: the endpoint does not answer as Cloud Storage does"
        )

    async def _authorize(self) -> tuple[Mapping[str, str], float | None]:
        """Headers with a token that is still good for a while, and for how many seconds; both empty when anonymous."""
        loop = asyncio.get_running_loop()
        async with self._opening:
            if (began := loop.time()) >= self._good_until:
                tokens = TokenRequests(self._tokens, self._what, loop)
                try:
                    async with asyncio.timeout(_IDENTITY_SECONDS):
                        self._headers, left = await aside(lambda _: self._token(tokens))
                except Exception as exc:
                    raise _translate(exc, self._what) from exc
                self._good_until = began + left - _RENEW_SECONDS
            if self._good_until == math.inf:
                return self._headers, None
            return self._headers, max(self._good_until - loop.time(), _LEAST_SECONDS)

    def _token(self, tokens: TokenRequests) -> tuple[Mapping[str, str], float]:
        """Headers, and how long their token lasts. Blocks, as google-auth does.

        The process's own identity is between gcsfs and whatever machine this is.
        """
        if self._fs is None:
            self._fs = self._connect()
        own = self._fs.credentials
        credentials = own.credentials
        if credentials is None:
            return {}, math.inf
        if not self._named:
            own.maybe_refresh(_RENEW_SECONDS)
        elif not credentials.valid or _left(credentials) <= _RENEW_SECONDS:
            credentials.refresh(tokens)
        headers: dict[str, str] = {}
        own.credentials.apply(headers)
        return headers, _left(own.credentials)

    def _connect(self) -> Any:
        given = self._given()
        self._named = given is not None
        fs = GCSFileSystem(
            asynchronous=True,
            skip_instance_cache=True,
            use_listings_cache=False,
            access="read_only",
            token=given or "anon",
            endpoint_url=self._access.endpoint_url,
        )
        if fs.credentials.credentials is None and not self._access.anonymous and fs.on_google:
            # Nobody but Google gets the process's own identity.
            fs.credentials.connect(None)
        return fs

    def _given(self) -> Any:
        """google-auth's credentials for the named service account; None when there is none."""
        account = self._access.service_account
        if account is None or self._access.anonymous:
            return None
        try:
            if account["type"] == "authorized_user":
                return oauth2.Credentials.from_authorized_user_info(  # type: ignore[no-untyped-call]
                    account, scopes=[_SCOPE]
                )
            Endpoint.of(account["token_uri"])
            return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                account, scopes=[_SCOPE]
            )
        except (ValueError, google.MalformedError) as exc:
            raise Stalled(
                Reason.CREDENTIALS_INVALID, "the service account's JSON is not usable"
            ) from exc


def _left(credentials: Any) -> float:
    """Seconds that a token is good for."""
    expiry: datetime | None = credentials.expiry
    if expiry is None:
        return math.inf
    return (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()


def _is_item(item: Mapping[str, Any]) -> bool:
    """Whether all that is read of it is as it should be."""
    generation = str(item.get("generation"))
    return (
        isinstance(item.get("name"), str)
        and generation.isascii()
        and generation.isdigit()
        and all(isinstance(item.get(field, ""), str) for field in ("md5Hash", "crc32c"))
    )


def _remote(item: Mapping[str, Any], path: str) -> RemoteFile:
    """An object stored compressed is served unpacked: its size and digests are those of other bytes."""
    packed = item.get("contentEncoding") == "gzip"
    found = []
    if not packed:
        for algorithm, field in ((Algorithm.MD5, "md5Hash"), (Algorithm.CRC32C, "crc32c")):
            value = from_base64(algorithm, item.get(field, ""))
            if value is not None:
                found.append(Digest(algorithm, value))
    return RemoteFile(
        path=path,
        size=None if packed else byte_count(str(item.get("size", 0))),
        validator=str(item["generation"]),
        locator=item["name"],
        digests=tuple(found),
    )


def _translate(exc: Exception, what: str) -> FetchError:
    told = already_told(exc)
    if told is not None:
        return told
    match exc:
        case google.TransportError() | TimeoutError() | OSError():
            return unreachable(what, "the token service does not answer")
        case google.RefreshError(retryable=True):
            return Retryable(Reason.SOURCE_ERROR, f"{what}: the token service is busy")
        case google.GoogleAuthError():
            return Stalled(Reason.ACCESS_DENIED, f"{what}: the credentials are refused")
        case _ if getattr(exc, "code", None) == 401:
            return Stalled(Reason.ACCESS_DENIED, f"{what}: the credentials are refused")
        case _:
            return Retryable(
                Reason.SOURCE_ERROR, f"{what}: unexpected {type(exc).__name__} while signing in"
            )
