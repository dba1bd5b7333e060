"""Source URIs: what they name, and how they may be shown."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

MAX_LENGTH: Final = 2048
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_AUTHORITY_END = re.compile(r"[/?#]")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9._@+=-]+(?:/[A-Za-z0-9._@+=-]+)*")
_CREDENTIALS = "must not hold credentials: name a serviceAccountName or a storage.key instead"


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A parsed `sourceModelUri`.

    authority: bucket (s3, gs), host and port (http, https), owner/repo (hf); "" for file.
    path: key or prefix without slashes around it (s3, gs), absolute path (file, http, https), "" for hf.
    revision: what an hf URI asks for after the colon, slashes allowed (`refs/pr/1`); None elsewhere.
    """

    text: str
    scheme: str
    authority: str
    path: str
    revision: str | None = None

    @property
    def bucket(self) -> str:
        """Bucket of an s3 or gs URI."""
        return self.authority

    @property
    def key(self) -> str:
        """Key or prefix of an s3 or gs URI, without slashes around it; "" for the whole bucket."""
        return self.path

    @property
    def repo(self) -> str:
        """`owner/name` of an hf URI."""
        return self.authority

    @classmethod
    def parse(cls, text: str) -> "SourceUri":
        """ValueError that names the defect. A scheme unknown here parses too; whether it is served is the agent's matter."""
        if len(text) > MAX_LENGTH:
            raise ValueError(f"is longer than {MAX_LENGTH} characters")
        if _CONTROL.search(text):
            raise ValueError("contains control characters")
        if text != text.strip():
            raise ValueError("begins or ends with white space")
        scheme, separator, rest = text.partition("://")
        if not separator or not _SCHEME.fullmatch(scheme):
            raise ValueError("has no scheme such as s3:// or hf://")
        if not rest:
            raise ValueError("names nothing after its scheme")
        match scheme.lower():
            case "s3" | "gs" as known:
                return cls(text, known, *_bucket_and_key(rest))
            case "hf" as known:
                repo, revision = _repo_and_revision(rest)
                return cls(text, known, repo, "", revision)
            case "file" as known:
                if not rest.startswith("/") or ".." in rest.split("/"):
                    raise ValueError("must hold an absolute path without ..")
                return cls(text, known, "", rest)
            case "http" | "https" as known:
                return cls(text, known, *_host_and_path(text))
            case other:
                authority, slash, path = rest.partition("/")
                user, at, _ = authority.rpartition("@")
                if (
                    at and ":" in user
                ):  # a bare user is part of the name in some schemes, as in abfss
                    raise ValueError(_CREDENTIALS)
                return cls(text, other, authority, slash + path)


def _bucket_and_key(rest: str) -> tuple[str, str]:
    bucket, _, key = rest.partition("/")
    if "@" in bucket:
        raise ValueError(_CREDENTIALS)
    if not _BUCKET.fullmatch(bucket):
        raise ValueError("has a malformed bucket" if bucket else "names no bucket")
    return bucket, key.strip("/")


def _repo_and_revision(rest: str) -> tuple[str, str | None]:
    if "@" in rest.partition("/")[0]:
        raise ValueError(_CREDENTIALS)
    repo, colon, revision = rest.partition(":")
    parts = repo.split("/")
    if len(parts) != 2 or not all(
        _REPO_PART.fullmatch(part) and ".." not in part for part in parts
    ):
        raise ValueError("must be hf://owner/repo or hf://owner/repo:revision")
    if colon and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ValueError("has a malformed revision")
    return repo, revision or None


def _host_and_path(text: str) -> tuple[str, str]:
    if " " in text:
        raise ValueError("contains a space: write %20")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("has a malformed host or port") from None
    if "@" in parts.netloc:
        raise ValueError(_CREDENTIALS)
    if not host or port == 0:
        raise ValueError("names no host")
    return parts.netloc, parts.path


def redact(url: str) -> str:
    """The URL without user info, query and fragment, fit for a log line or a status."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    end = _AUTHORITY_END.search(rest)
    authority, tail = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    path = re.split(r"[?#]", tail, maxsplit=1)[0]
    return scheme + separator + authority.rpartition("@")[2] + path
