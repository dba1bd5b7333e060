"""az:// and https://*.blob.core.windows.net: listed by Azure's XML, signed by SAS tokens or bearer tokens.

Asked directly and not by Azure's libraries, which would reach addresses that the policy refuses and retry unseen.
"""

from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote, unquote, urlencode

# Expat itself limits how far entities expand.
from xml.etree import ElementTree

from agent.errors import Retryable, Stalled
from agent.headers import byte_count, retry_after, sendable
from agent.manifest import Algorithm, Digest, Manifest, RemoteFile
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources import listing
from agent.sources.access import AzureAccess, login_tls, tls
from agent.sources.azure_location import locate
from agent.sources.azure_signing import Signature, signer
from agent.sources.digests import from_base64
from agent.sources.failures import http_failure
from agent.sources.web import Answer, Web
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

# The first version in which names that XML cannot hold are listed encoded.
_VERSION = {"x-ms-version": "2021-12-02"}
_PAGE = 5000
_SECRET = frozenset({"authorization"})


class AzureSource:
    """One container and blob name or prefix."""

    def __init__(self, uri: SourceUri, access: AzureAccess, policy: SourcePolicy) -> None:
        self._uri = uri
        self._place = locate(uri, access, policy)
        self._tls = tls(access)
        self._web = Web(policy, self._tls)
        self._login = Web(policy, login_tls(access))
        self._signer = signer(access, self._place, self._login)
        self._what = self._place.shown

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """Never pinned: a prefix has no state of its own. The revision digests names, sizes and ETags."""
        return listing.manifest(self._uri.text, [file async for file in self._list()])

    async def sign(self, file: RemoteFile) -> SignedRequest:
        """Fails with 412 once the blob has another ETag."""
        signature = await self._signer.sign()
        return SignedRequest(
            url=self._url(f"/{quote(file.locator, safe='/~')}", signature, {}),
            headers={**_VERSION, **signature.headers, "If-Match": file.validator},
            secret_headers=_SECRET,
            expect={"etag": file.validator},
            expires_in=signature.seconds,
            tls=self._tls,
        )

    async def close(self) -> None:
        await self._web.close()
        await self._login.close()

    async def _list(self) -> AsyncIterator[RemoteFile]:
        """Files below the name taken as a folder; when there is nothing at all, the blob of that very name."""
        name = self._place.name
        prefix = f"{name}/" if name else ""
        tally = listing.Tally(self._what)
        any_name = False
        async for blob in self._blobs(prefix):
            tally.add(_name(blob))
            any_name = True
            if not _is_folder(blob):
                yield self._remote(blob, listing.path_below(prefix, _name(blob)))
        if any_name or not name:
            return
        # A blob is listed before all longer names that begin with its own.
        async for blob in self._blobs(name, limit=1):
            if _name(blob) == name and not _is_folder(blob):
                yield self._remote(blob, name.rpartition("/")[2])
                return
        raise Stalled(Reason.SOURCE_NOT_FOUND, f"there is nothing at {self._what}")

    async def _blobs(
        self, prefix: str, *, limit: int = _PAGE
    ) -> AsyncIterator[ElementTree.Element]:
        marker = ""
        while True:
            query = {
                "restype": "container",
                "comp": "list",
                "include": "metadata",
                "maxresults": str(limit),
                **({"prefix": prefix} if prefix else {}),
                **({"marker": marker} if marker else {}),
            }
            page = self._parse(await self._ask(query))
            for blob in page.iterfind("Blobs/Blob"):
                yield blob
            following = page.findtext("NextMarker") or ""
            if limit < _PAGE or not following or following == marker:
                return
            marker = following

    async def _ask(self, query: Mapping[str, str]) -> bytes:
        signature = await self._signer.sign()
        answer = await self._web.request(
            "GET",
            self._url("", signature, query),
            what=self._what,
            headers={**_VERSION, **signature.headers},
            accept=frozenset({200, 401, 403, 404, 409}),
        )
        if answer.status != 200:
            raise self._refusal(answer, anonymous=signature.anonymous)
        return answer.body

    def _refusal(self, answer: Answer, *, anonymous: bool) -> Stalled:
        code = answer.headers.get("x-ms-error-code", "")
        # Azure does not tell strangers which containers exist.
        hidden = answer.status in {401, 403} or code in {
            "ResourceNotFound",
            "PublicAccessNotPermitted",
        }
        if anonymous and hidden:
            return Stalled(
                Reason.ACCESS_DENIED,
                f"{self._what} does not exist, or is private and needs credentials",
            )
        if answer.status == 409:
            return Stalled(Reason.ACCESS_DENIED, f"access to {self._what} is denied ({code})")
        failure = http_failure(answer.status, self._what, after=retry_after(answer.headers))
        return Stalled(failure.reason, f"{failure.message}{f' ({code})' if code else ''}")

    def _parse(self, body: bytes) -> ElementTree.Element:
        try:
            page = ElementTree.fromstring(body)  # noqa: S314
        except (ElementTree.ParseError, ValueError, LookupError):
            # The latter two for encodings that Expat does not take.
            page = ElementTree.Element("nothing")
        if page.tag != "EnumerationResults":
            raise self._strange()
        return page

    def _remote(self, blob: ElementTree.Element, path: str) -> RemoteFile:
        etag = (blob.findtext("Properties/Etag") or "").strip('"')
        if not sendable(etag):
            raise self._strange()
        md5 = from_base64(Algorithm.MD5, blob.findtext("Properties/Content-MD5") or "")
        return RemoteFile(
            path=path,
            size=byte_count(blob.findtext("Properties/Content-Length") or ""),
            validator=f'"{etag}"',
            locator=_name(blob),
            digests=() if md5 is None else (Digest(Algorithm.MD5, md5),),
        )

    def _strange(self) -> Retryable:
        return Retryable(
            Reason.SOURCE_ERROR, f"{self._what}: the endpoint does not answer as Azure does"
        )

    def _url(self, path: str, signature: Signature, query: Mapping[str, str]) -> str:
        text = "&".join(part for part in (urlencode(query), signature.query) if part)
        return f"{self._place.container_url}{path}" + (f"?{text}" if text else "")


def _name(blob: ElementTree.Element) -> str:
    found = blob.find("Name")
    text = "" if found is None else found.text or ""
    encoded = found is not None and found.get("Encoded") == "true"
    return unquote(text, errors="surrogateescape") if encoded else text


def _is_folder(blob: ElementTree.Element) -> bool:
    """Marks that data-lake accounts and tools leave for folders."""
    return (
        _name(blob).endswith("/")
        or blob.findtext("Properties/ResourceType") == "directory"
        or (blob.findtext("Metadata/hdi_isfolder") or "").lower() == "true"
    )
