"""Any other scheme that fsspec has something installed for: listed and read through that, slower, and verified by size alone."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import fsspec
import structlog

from agent.daemons import Daemons, aside
from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.headers import file_size
from agent.manifest import Manifest, RemoteFile
from agent.origin import OpenFile, Readable
from agent.policy import SourcePolicy
from agent.sources import listing
from agent.sources.access import GenericAccess
from agent.sources.addresses import check_host
from agent.sources.failures import already_told, listed, unreachable
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

# What is no place of its own: this machine, its memory, and what wraps another one.
_NEVER = frozenset(
    {
        *("asyncwrapper", "blockcache", "cached", "dask", "data", "dir", "file", "filecache"),
        *("generic", "libarchive", "local", "memory", "reference", "simplecache", "tar", "zip"),
    }
)
# What a listing may say of a file's version, as the file systems of fsspec call it.
_VERSIONS = ("ETag", "etag", "checksum", "sha256", "sha", "mtime", "modify", "LastModified")
_CALL_SECONDS = 300.0
# Some libraries wait for ever for a peer that says nothing.
_SILENCE_SECONDS = 30.0
_reads = Daemons(64, name="generic")
# Pieces in which a library reads; each is in memory twice, for every connection.
_PIECE = 1 << 20
_T = TypeVar("_T")

log = structlog.get_logger(__name__)


def serves(scheme: str, policy: SourcePolicy) -> bool:
    """Whether the admin allows the scheme, and fsspec knows it."""
    allowed = policy.generic_schemes is None or scheme in policy.generic_schemes
    return allowed and scheme not in _NEVER and scheme in fsspec.available_protocols()


class GenericSource:
    """One file or folder. Each file that is read has a file system of its own: few of them are safe for threads."""

    def __init__(self, uri: SourceUri, access: GenericAccess, policy: SourcePolicy) -> None:
        self._uri = uri
        self._policy = policy
        self._what = f"{uri.scheme}://{uri.authority.rpartition('@')[2]}{uri.path}"
        self._options = dict(access.options or {}) if not access.anonymous else {}
        self._check_options()

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """Never pinned. The revision digests names, sizes and what the library says of versions."""
        log.warning(
            "generic path: slower, and verified by size alone",
            scheme=self._uri.scheme,
            library=await self._blocking(lambda: type(self._system()[0]).__module__),
        )
        return listing.manifest(self._uri.text, await self._blocking(self._list))

    async def sign(self, file: RemoteFile) -> Readable:
        with listed(f"{self._what}: {file.path}"):
            now = await self._blocking(lambda: self._system()[0].info(file.locator))
        if now.get("size") != file.size or _version(now) != file.validator:
            raise SourceChanged(f"{self._what}: {file.path} changed at its source")
        return Readable(partial(self._open, file))

    async def close(self) -> None:
        """File systems are closed with the files that they read."""

    def _check_options(self) -> None:
        """Stored options go to the host that they name, or where the admin says."""
        place = urlsplit(self._uri.text.replace(self._uri.scheme, "https", 1))
        bound = str(self._options.pop("host", "")).lower() == (place.hostname or "")
        if self._options and not bound and not self._policy.may_receive_credentials(place.geturl()):
            raise Stalled(
                Reason.SOURCE_NOT_ALLOWED,
                f"stored credentials do not go to {place.hostname}: host of the entry must name it, "
                "or an admin lists it in credential_endpoints",
            )

    def _system(self) -> tuple[Any, str]:
        place = urlsplit(self._uri.text.replace(self._uri.scheme, "https", 1))
        if place.hostname:
            # Without an address it is a bucket or the like: the library knows what.
            with contextlib.suppress(OSError):
                check_host(self._policy, place.hostname, place.port)
        found, path = fsspec.core.url_to_fs(
            self._uri.text, skip_instance_cache=True, use_listings_cache=False, **self._options
        )
        return found, str(path)

    def _list(self) -> list[RemoteFile]:
        system, root = self._system()
        top = system.info(root)
        if top.get("type") != "directory":
            return [_remote(top, root, root.rstrip("/").rpartition("/")[2])]
        prefix = root.rstrip("/") + "/"
        tally = listing.Tally(self._what)
        files = []
        folders = [root.rstrip("/")]
        while folders:
            # Not `find`, which takes a folder that cannot be listed for an empty one.
            folder = folders.pop()
            for info in system.ls(folder or "/", detail=True):
                name = str(info["name"]).rstrip("/")
                if name == folder:
                    continue
                tally.add(name)
                if info.get("type") == "directory":
                    folders.append(name)
                else:
                    files.append(_remote(info, info["name"], name.removeprefix(prefix)))
        return files

    def _open(self, file: RemoteFile, offset: int) -> OpenFile:
        def at_offset() -> Any:
            system, _ = self._system()
            opened = system.open(file.locator, "rb", block_size=_PIECE, cache_type="none")
            if offset:
                opened.seek(offset)
            return opened

        return _Reader(self._in_time(at_offset), self._in_time)

    def _in_time(self, work: Callable[[], _T]) -> _T:
        """What waits longer is left to itself."""
        future = _reads.submit(self._translated, work)
        try:
            return future.result(_SILENCE_SECONDS)
        except TimeoutError as exc:
            future.cancel()
            raise unreachable(self._what, f"no answer for {_SILENCE_SECONDS:.0f} s") from exc

    def _translated(self, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except Exception as exc:
            raise _translate(exc, self._what, self._uri.scheme) from exc

    async def _blocking(self, work: Callable[[], _T]) -> _T:
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                return await aside(lambda _: self._translated(work))
        except TimeoutError as exc:
            raise unreachable(self._what, "no answer in time") from exc


class _Reader:
    def __init__(self, file: Any, in_time: Callable[[Callable[[], Any]], Any]) -> None:
        self._file = file
        self._in_time = in_time

    def read(self, size: int) -> bytes:
        found: bytes = self._in_time(lambda: self._file.read(min(size, _PIECE)))
        return found

    def close(self) -> None:
        self._in_time(self._file.close)


def _remote(info: Mapping[str, Any], place: str, path: str) -> RemoteFile:
    return RemoteFile(
        path=path,
        size=file_size(info.get("size")),
        validator=_version(info),
        locator=place,
    )


def _version(info: Mapping[str, Any]) -> str:
    return next((str(info[name]) for name in _VERSIONS if info.get(name)), "")


def _translate(exc: Exception, what: str, scheme: str) -> FetchError:
    """Never the exception's own text: some quote passwords."""
    told = already_told(exc)
    if told is not None:
        return told
    code = str(exc)[:3] if type(exc).__module__ == "ftplib" else ""
    match exc:
        case ImportError():
            return Stalled(
                Reason.UNSUPPORTED_SCHEME,
                f"{scheme}:// needs a library that is not installed: see fsspec's list of file systems",
            )
        case FileNotFoundError() | NotADirectoryError():
            return Stalled(Reason.SOURCE_NOT_FOUND, f"{what} does not exist")
        case PermissionError():
            return Stalled(Reason.ACCESS_DENIED, f"access to {what} is denied")
        case _ if code == "530":
            return Stalled(Reason.ACCESS_DENIED, f"access to {what} is denied ({code})")
        case _ if code == "550":
            return Stalled(Reason.SOURCE_NOT_FOUND, f"{what} does not exist ({code})")
        case TimeoutError() | OSError() | EOFError():
            return unreachable(what, "no connection, or it broke")
        case _:
            return Retryable(
                Reason.SOURCE_ERROR, f"{what}: unexpected {type(exc).__name__} in fsspec"
            )
