"""file://: a file or folder of this machine, or of whatever is mounted there."""

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from agent.daemons import Check, aside
from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.manifest import Manifest, RemoteFile, safe_path
from agent.origin import LocalPath
from agent.policy import SourcePolicy
from agent.sources import listing
from agent.sources.failures import listed
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

# A network file system may hang; the copy is then tried again.
_WALK_SECONDS = 300.0


class FileSource:
    """Symlinks to files are followed as long as they lead to where the policy allows; links to folders are refused."""

    def __init__(self, uri: SourceUri, policy: SourcePolicy) -> None:
        self._uri = uri
        self._policy = policy
        self._root = Path(uri.path)

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """Never pinned. Validators are size and modification time."""
        try:
            async with asyncio.timeout(_WALK_SECONDS):
                files = await aside(lambda check: list(self._walk(check)))
        except OSError as exc:
            raise _translate(exc, str(self._root)) from exc
        except ValueError as exc:
            raise Stalled(Reason.INVALID_SOURCE, "the URI's path holds a NUL") from exc
        return listing.manifest(self._uri.text, files)

    async def sign(self, file: RemoteFile) -> LocalPath:
        """Checked again: a link may lead elsewhere by now."""
        with listed(file.locator):
            try:
                return await aside(lambda _: self._local(file))
            except OSError as exc:
                raise _translate(exc, file.locator) from exc

    async def close(self) -> None:
        """Nothing is open."""

    def _local(self, file: RemoteFile) -> LocalPath:
        real = self._allowed(Path(file.locator))
        if _validator(real.stat()) != file.validator:
            raise SourceChanged(f"{file.locator} changed at its source")
        return LocalPath(real)

    def _walk(self, check: Check) -> Iterator[RemoteFile]:
        root = self._allowed(self._root)
        tally = listing.Tally(str(root))
        if not root.is_dir():
            yield self._remote(root, self._root.name)
            return
        folders = [root]
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    check()
                    path = Path(entry.path)
                    name = safe_path(str(path.relative_to(root)))
                    tally.add(name)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
                    else:
                        yield self._remote(path, name)

    def _remote(self, path: Path, name: str) -> RemoteFile:
        real = self._allowed(path)
        status = real.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Stalled(
                Reason.UNSAFE_PATH, f"entry {name!r} is neither a file nor a folder of its own"
            )
        return RemoteFile(
            path=name, size=status.st_size, validator=_validator(status), locator=str(path)
        )

    def _allowed(self, path: Path) -> Path:
        """Where `path` really is; what is outside is refused whether it exists or not."""
        real = Path(os.path.realpath(path))
        if not self._policy.allows_file(real):
            raise Stalled(
                Reason.SOURCE_NOT_ALLOWED,
                f"{path} is outside the folders that allowed_file_roots lists",
            )
        return real


def _validator(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _translate(exc: OSError, what: str) -> FetchError:
    match exc:
        case FileNotFoundError() | NotADirectoryError():
            return Stalled(Reason.SOURCE_NOT_FOUND, f"{what} does not exist")
        case PermissionError():
            return Stalled(Reason.ACCESS_DENIED, f"{what} cannot be read by the agent")
        case TimeoutError():
            return Retryable(Reason.SOURCE_UNREACHABLE, f"{what} did not answer in time")
        case _:
            return Retryable(Reason.SOURCE_ERROR, f"{what}: {exc.strerror}")
