"""What a model consists of: files, sizes, digests, and the paths they may have."""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from agent.errors import Stalled
from shared.domain.reasons import Reason

# NAME_MAX and PATH_MAX of Linux, less room for the store's own prefix.
_MAX_COMPONENT_BYTES = 255
_MAX_PATH_BYTES = 3072
# Nothing but printable ASCII, as most paths are: told in 0.3 µs, where a look at each character takes 3.
_COMPONENT = r"(?!\.{1,2}(?:/|\Z))[ -.0-\[\]-~]{1,255}+"
_PLAIN_PATH = re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*")
# Far above any model's number of files; each costs an inode, and about 1 KiB of memory while it is listed and fetched.
MOST_FILES = 200_000


class Algorithm(StrEnum):
    """Digests that a source may state, strongest first. CRCs and MD5 guard against accidents, not attackers."""

    SHA256 = "sha256"
    GIT_SHA1 = "git-sha1"
    MD5 = "md5"
    CRC64NVME = "crc64nvme"
    CRC32C = "crc32c"
    CRC32 = "crc32"


class Strength(StrEnum):
    """How a file was verified, strongest first; `SIZE` means size and an unchanged validator only."""

    SHA256 = "sha256"
    GIT_SHA1 = "git-sha1"
    MD5 = "md5"
    CRC64NVME = "crc64nvme"
    CRC32C = "crc32c"
    CRC32 = "crc32"
    SIZE = "size"


def weakest(strengths: list[Strength]) -> Strength:
    """The strength of a whole is that of its weakest file; an empty model counts as strong as its listing."""
    order = list(Strength)
    return max(strengths, key=order.index, default=Strength.SIZE)


@dataclass(frozen=True, slots=True)
class Digest:
    """A content digest; `value` is lower-case hex of the big-endian bytes, whatever the source's own encoding."""

    algorithm: Algorithm
    value: str


class ArchiveKind(StrEnum):
    """A single file that is unpacked instead of published as it is."""

    TAR = "tar"
    TAR_GZ = "tar.gz"
    ZIP = "zip"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a model at its source.

    path: relative POSIX path inside the model, already checked by `safe_path`.
    size: bytes, or None where the source does not say beforehand.
    validator: names this version of the content (etag, generation, commit); "" where the source has none.
    locator: how the source finds the file again (key, object name, URL path); means nothing to anybody else.
    digests: what the source states about the whole file's content, strongest first.
    """

    path: str
    size: int | None
    validator: str
    locator: str
    digests: tuple[Digest, ...] = ()

    @property
    def versioned(self) -> bool:
        """Whether anything would tell that two answers are of different contents; else one answer must bring all of it."""
        return bool(self.validator or self.digests)


@dataclass(frozen=True, slots=True)
class Layer:
    """A file that is unpacked over those before it; files that are no layer come as they are.

    path: of the packed file. folder: only what is below it counts, and comes without it; "" or ending in `/`. whiteouts:
    entries `.wh.*` hide what layers before have, as in container images.
    """

    path: str
    kind: ArchiveKind
    folder: str = ""
    whiteouts: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a URI resolved to. `pinned`: the revision alone is enough to get the same bytes again later.

    archive: the only file is an archive. layers: several are, lowest first.
    """

    uri: str
    revision: str
    files: tuple[RemoteFile, ...]
    pinned: bool = False
    archive: ArchiveKind | None = None
    layers: tuple[Layer, ...] = ()

    @property
    def packed(self) -> bool:
        """Whether the model's files are known only once something has been unpacked."""
        return self.archive is not None or bool(self.layers)

    @property
    def size(self) -> int | None:
        """Bytes of all files, or None when one of them is unknown."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def safe_path(path: str) -> str:
    """The path itself when it may be created below a model's folder.

    Raises `Stalled(UnsafePath)` naming the entry for: empty, absolute, `.`/`..`/empty components, NUL and other
    control characters, backslashes, over-long names, text that is not valid UTF-8. Paths are kept as they are,
    never normalised: two names that a source tells apart stay two files.
    """
    if len(path) <= _MAX_PATH_BYTES and _PLAIN_PATH.fullmatch(path):
        return path
    shown = (
        path.encode("utf-8", "backslashreplace").decode().encode("unicode_escape").decode()[:200]
    )
    for found, why in (
        (not path, "is empty"),
        (path.startswith("/"), "is absolute"),
        ("\\" in path, "contains a backslash"),
        (any(unicodedata.category(c) in {"Cc", "Cs"} for c in path), "contains control characters"),
        (any(part in {"", ".", ".."} for part in path.split("/")), "leaves its folder"),
    ):
        if found:
            raise Stalled(Reason.UNSAFE_PATH, f"entry {shown!r} {why}")
    encoded = path.encode()
    if len(encoded) > _MAX_PATH_BYTES or any(
        len(part) > _MAX_COMPONENT_BYTES for part in encoded.split(b"/")
    ):
        raise Stalled(Reason.UNSAFE_PATH, f"entry {shown!r} is too long for a file name")
    return path
