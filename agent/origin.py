"""Where a file's bytes come from: what the transfer engine asks of a source, or later of a peer node."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from agent.manifest import Digest, RemoteFile
from agent.tls import SYSTEM_TLS, Tls


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """An HTTP GET for one file's bytes; the engine adds `Range`.

    headers: sent to `url`'s own origin only; after a redirect to another origin those in `secret_headers` are left out.
    expect: response headers (lower case) that must have exactly these values, or the source changed. Each counts on the
        first answer that carries it, redirects included: a Hub names the commit and then redirects to its CDN.
    states: for a file without digests: reads them from the headers of an answer that carries the file whole. Answers
        after a redirect to another place are not asked.
    window: for a service that knows no Range: the URL of the bytes from the first to before the second number, answered by
        200 with just these. Where it redirects to is asked anew for each window.
    expires_in: seconds from signing until the engine must ask again; None = never.
    watched: no answer tells the file's version, only signing looks at it: asked for once more after the last byte.
    missing: where what a URL names never changes: what a person is told when nothing is there. Elsewhere the source changed.
    tls: how this source's certificates are checked, after redirects as well.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_headers: frozenset[str] = frozenset({"authorization", "cookie", "proxy-authorization"})
    expect: Mapping[str, str] = field(default_factory=dict)
    states: Callable[[Mapping[str, str]], tuple[Digest, ...]] | None = None
    window: Callable[[int, int], str] | None = None
    expires_in: float | None = None
    watched: bool = False
    missing: str = ""
    tls: Tls = SYSTEM_TLS


@dataclass(frozen=True, slots=True)
class LocalPath:
    """A file that is on this machine already: reflinked or copied, not requested."""

    path: Path


class OpenFile(Protocol):
    """Reads on from where it was opened. Blocks; raises `FetchError` only."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Readable:
    """A file that only a library can read. open: at an offset, in a thread; raises `FetchError`."""

    open: Callable[[int], OpenFile]


class Origin(Protocol):
    """A place that serves the bytes of a file."""

    async def sign(self, file: RemoteFile) -> SignedRequest | LocalPath | Readable:
        """Raises `FetchError`; SourceChanged when the file is seen not to be the listed one any more.

        Called again when a request expired or was refused (401/403), and after the last byte of what is not requested or
        is `watched`.
        """
        ...


@runtime_checkable
class Renewable(Origin, Protocol):
    """One whose credentials may change while it serves."""

    async def renew(self) -> None:
        """What it signed was refused (401/403): nothing that it has kept may count any more. Raises `FetchError`."""
        ...
