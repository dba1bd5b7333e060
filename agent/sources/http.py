"""http:// and https://: one file, whose name is the last part of the path."""

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from agent.errors import Stalled
from agent.headers import byte_count, sendable
from agent.manifest import Manifest, RemoteFile
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources import listing
from agent.sources.access import Access, tls
from agent.sources.digests import header_digests
from agent.sources.web import Answer, Web
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri, redact

# A server that knows no HEAD says so with one of these; some object stores sign GET only and answer 403.
_NO_HEAD = frozenset({400, 403, 404, 405, 501})


class HttpSource:
    """Asks by HEAD, and by a GET of the first byte where HEAD does not work or does not tell the size."""

    def __init__(self, uri: SourceUri, access: Access, policy: SourcePolicy) -> None:
        """access: how certificates are checked; there are no credentials."""
        self._uri = uri
        self._url = uri.text.partition("#")[0]
        self._what = redact(self._url)
        self._tls = tls(access)
        self._web = Web(policy, self._tls)

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """Never pinned. The revision is a digest of name, size and validator."""
        name = _file_name(self._url)
        answer = await self._ask()
        size = _size(answer)
        file = RemoteFile(
            path=name,
            size=size,
            validator=_validator(answer.headers),
            locator=self._url,
            digests=header_digests(answer.headers, whole=answer.status == 200),
        )
        return listing.manifest(self._uri.text, [file])

    async def sign(self, file: RemoteFile) -> SignedRequest:
        return SignedRequest(
            url=file.locator,
            headers=_condition(file.validator),
            expect=_expected(file.validator),
            tls=self._tls,
        )

    async def close(self) -> None:
        await self._web.close()

    async def _ask(self) -> Answer:
        """HEAD's answer when it tells a size, else that of a GET for one byte; bodies are not read."""
        head = await self._web.request(
            "HEAD", self._url, what=self._what, accept=_NO_HEAD | {200, 204}, read=False
        )
        # Some servers answer HEAD with a length of 0, meaning that of the answer itself.
        if head.status == 200 and head.headers.get("Content-Length", "0") != "0":
            return head
        return await self._web.request(
            "GET",
            self._url,
            what=self._what,
            headers={"Range": "bytes=0-0"},
            accept=frozenset({200, 206, 416}),
            read=False,
        )


def _file_name(url: str) -> str:
    """The path's last component, decoded; what it may be is `safe_path`'s matter."""
    name = unquote(urlsplit(url).path.rpartition("/")[2], errors="surrogateescape")
    if not name or "/" in name:
        raise Stalled(
            Reason.INVALID_SOURCE, f"{redact(url)}: the path must end in the name of a file"
        )
    return name


def _size(answer: Answer) -> int | None:
    """Bytes of the whole file; a range's total, and 416 for an empty file, tell it too."""
    headers = answer.headers
    if answer.status in {206, 416}:
        total = headers.get("Content-Range", "").rpartition("/")[2]
        return byte_count(total)
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        return None
    return byte_count(headers.get("Content-Length", ""))


def _validator(headers: Mapping[str, str]) -> str:
    found = (headers.get("ETag", ""), headers.get("Last-Modified", ""))
    return next((text for text in found if text and sendable(text)), "")


def _condition(validator: str) -> Mapping[str, str]:
    """Weak ETags never match a strong comparison, so they are compared in the answer alone."""
    if validator.startswith('"'):
        return {"If-Match": validator}
    if validator and not validator.startswith("W/"):
        return {"If-Unmodified-Since": validator}
    return {}


def _expected(validator: str) -> Mapping[str, str]:
    if not validator:
        return {}
    return {"etag" if validator.startswith(('"', "W/")) else "last-modified": validator}
