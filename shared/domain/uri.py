"""Source URIs: what they name, and how they may be shown."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

MAX_LENGTH: Final = 2048
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9._/-]+")


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A parsed `sourceModelUri`.

    authority: bucket (s3, gs), host and port (http, https), owner/repo (hf); "" for file.
    path: key or prefix without a leading slash (s3, gs), absolute path (file, http, https), "" for hf.
    revision: what an hf URI asks for after the colon; None elsewhere.
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
        if any(ord(c) <= 0x20 or ord(c) == 0x7F for c in text):
            raise ValueError("contains white space or control characters")
        scheme, separator, rest = text.partition("://")
        if not separator or not _SCHEME.fullmatch(scheme):
            raise ValueError("has no scheme such as s3:// or hf://")
        match scheme.lower():
            case "s3" | "gs" as known:
                bucket, _, key = rest.partition("/")
                if not _BUCKET.fullmatch(bucket):
                    raise ValueError("names no bucket" if not bucket else "has a malformed bucket")
                return cls(text, known, bucket, key.strip("/"))
            case "hf" as known:
                repo, colon, revision = rest.partition(":")
                if not _REPO.fullmatch(repo):
                    raise ValueError("must be hf://owner/repo or hf://owner/repo:revision")
                if colon and (not _REVISION.fullmatch(revision) or ".." in revision):
                    raise ValueError("has a malformed revision")
                return cls(text, known, repo, "", revision or None)
            case "file" as known:
                if not rest.startswith("/") or ".." in rest.split("/"):
                    raise ValueError("must hold an absolute path without ..")
                return cls(text, known, "", rest)
            case "http" | "https" as known:
                return cls(text, known, *_host_and_path(text))
            case other:
                authority, slash, path = rest.partition("/")
                if "@" in authority:
                    raise ValueError("must not hold credentials")
                return cls(text, other, authority, slash + path)


def _host_and_path(text: str) -> tuple[str, str]:
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials")
    if not parts.hostname or parts.port == 0:
        raise ValueError("names no host")
    return parts.netloc, parts.path


def redact(url: str) -> str:
    """The URL without user info, query and fragment, fit for a log line or a status."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(malformed URL)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
