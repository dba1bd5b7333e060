"""From what a source lists to a manifest: safe paths, no collisions, a revision. Pure."""

import hashlib
from collections.abc import Iterable, Sequence

from agent.errors import Stalled
from agent.manifest import MOST_FILES, ArchiveKind, Layer, Manifest, RemoteFile, safe_path
from shared.domain.reasons import Reason

_SUFFIXES = (
    (".tar.gz", ArchiveKind.TAR_GZ),
    (".tgz", ArchiveKind.TAR_GZ),
    (".tar", ArchiveKind.TAR),
    (".zip", ArchiveKind.ZIP),
)
# Of all names together: what so many files may have at 300 bytes each, and half of a pod's memory at the very worst.
_MOST_NAME_BYTES = 60 << 20


class Tally:
    """Counts what a listing brings: a bucket that was named by mistake ends the listing, and not the agent."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._entries = self._bytes = 0

    def add(self, name: str) -> None:
        """One more file, folder or mark. Raises Stalled(InvalidSource)."""
        self._entries += 1
        self._bytes += len(name)
        if self._entries > MOST_FILES:
            raise self._refused(f"{MOST_FILES:,} entries")
        if self._bytes > _MOST_NAME_BYTES:
            raise self._refused(f"{_MOST_NAME_BYTES >> 20} MiB of names")

    def _refused(self, limit: str) -> Stalled:
        return Stalled(
            Reason.INVALID_SOURCE,
            f"sourceModelUri: {self._what} lists more than {limit}; it must name one model",
        )


def manifest(
    uri: str,
    files: Iterable[RemoteFile],
    *,
    revision: str | None = None,
    unpack: bool = True,
    layers: tuple[Layer, ...] = (),
) -> Manifest:
    """Files sorted by path. Without `revision` the listing's own digest is the revision, and nothing is pinned.

    unpack: a single file that is an archive will be unpacked. layers: which files are unpacked over each other.
    Raises `Stalled`: UnsafePath for a name that cannot be created, SourceEmpty without any file.
    """
    ordered = tuple(sorted(files, key=lambda file: file.path))
    if not ordered:
        raise Stalled(Reason.SOURCE_EMPTY, "the source holds no files")
    for file in ordered:
        safe_path(file.path)
    check_collisions([file.path for file in ordered])
    return Manifest(
        uri=uri,
        revision=revision or listing_digest(ordered),
        files=ordered,
        pinned=revision is not None,
        archive=archive_kind(ordered[0].path) if unpack and len(ordered) == 1 else None,
        layers=layers,
    )


def check_collisions(paths: Sequence[str]) -> None:
    """Raise for a path that occurs twice, and for a file whose name another one needs as a folder."""
    files: set[str] = set()
    for path in paths:
        if path in files:
            raise Stalled(Reason.UNSAFE_PATH, f"entry {path!r} occurs twice")
        files.add(path)
    for path in paths:
        cut = path.find("/")
        while cut > 0:
            if path[:cut] in files:
                raise Stalled(
                    Reason.UNSAFE_PATH,
                    f"entry {path[:cut]!r} is a file, and {path!r} needs a folder of that name",
                )
            cut = path.find("/", cut + 1)


def listing_digest(files: Iterable[RemoteFile]) -> str:
    """Names a listing: equal as long as paths, sizes and validators are; `listing-` and 32 hex digits."""
    digest = hashlib.sha256()
    for file in files:
        for part in (file.path, str(file.size), file.validator):
            encoded = part.encode(errors="surrogatepass")
            digest.update(f"{len(encoded)}:".encode() + encoded)
    return f"listing-{digest.hexdigest()[:32]}"


def archive_kind(name: str) -> ArchiveKind | None:
    lower = name.lower()
    return next((kind for suffix, kind in _SUFFIXES if lower.endswith(suffix)), None)


def path_below(prefix: str, key: str) -> str:
    """`key` relative to the folder `prefix` ("" or ending in `/`)."""
    return key.removeprefix(prefix)
