"""What an OCI manifest consists of: files by title, archives, or a container image's layers. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.errors import Stalled
from agent.headers import file_size
from agent.manifest import Algorithm, ArchiveKind, Digest, Layer, RemoteFile
from agent.sources.digests import from_hex
from shared.domain.reasons import Reason

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_IMAGE_CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
# ORAS, and ModelPack with the name it had before.
_TITLES = (
    "org.opencontainers.image.title",
    "org.cncf.model.filepath",
    "org.cnai.model.filepath",
)
_UNPACK = "io.deis.oras.content.unpack"
# A model image keeps its model there.
_FOLDER = "models/"
_KINDS = (
    ("tar+gzip", ArchiveKind.TAR_GZ),
    ("tar.gzip", ArchiveKind.TAR_GZ),
    ("tar", ArchiveKind.TAR),
)


@dataclass(frozen=True, slots=True)
class Content:
    files: tuple[RemoteFile, ...]
    layers: tuple[Layer, ...]


def pick_platform(entries: Sequence[Any], *, architecture: str, what: str) -> Mapping[str, Any]:
    """The manifest of an index that is for this machine, or the only one that is for none in particular."""
    good = [entry for entry in entries if isinstance(entry, dict)]
    anywhere = []
    for entry in good:
        platform = entry.get("platform")
        if not isinstance(platform, dict):
            anywhere.append(entry)
        elif (platform.get("os"), platform.get("architecture")) == ("linux", architecture):
            return entry
    if len(anywhere) == 1:
        return anywhere[0]
    raise Stalled(
        Reason.SOURCE_NOT_FOUND, f"{what}: its index has no manifest for linux/{architecture}"
    )


def content(manifest: Mapping[str, Any], what: str) -> Content:
    """Raises Stalled(InvalidSource) for what cannot be a model."""
    config = manifest.get("config")
    is_image = isinstance(config, dict) and str(config.get("mediaType")) in _IMAGE_CONFIGS
    entries = manifest.get("layers")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Stalled(Reason.INVALID_SOURCE, f"{what}: its manifest lists no layers")
    files: dict[str, RemoteFile] = {}
    layers: list[Layer] = []
    for entry in entries:
        media, title = str(entry.get("mediaType") or ""), _title(entry)
        kind = None if title is not None and _comes_as_it_is(entry, media) else _kind(media, what)
        if kind is None and title is None:
            # Attestations and the like.
            continue
        file = _file(entry, what, kind, title)
        files[file.path] = file
        if kind is not None:
            # The same blob may stand in an image twice; the upper one counts.
            layers = [layer for layer in layers if layer.path != file.path]
            folder = _FOLDER if is_image else ""
            layers.append(Layer(file.path, kind, folder, whiteouts=is_image))
    if not files:
        raise Stalled(
            Reason.SOURCE_EMPTY,
            f"{what}: its manifest lists neither archives nor files with a title",
        )
    return Content(tuple(files.values()), tuple(layers))


def _title(entry: Mapping[str, Any]) -> str | None:
    notes = entry.get("annotations")
    if not isinstance(notes, dict):
        return None
    return next((notes[key] for key in _TITLES if isinstance(notes.get(key), str)), None)


def _comes_as_it_is(entry: Mapping[str, Any], media: str) -> bool:
    """ORAS calls every file a tar layer and says of folders that they are to be unpacked; ModelPack means what it says."""
    if ".model." in media:
        return _suffix(media) is None
    return str((entry.get("annotations") or {}).get(_UNPACK, "")).lower() != "true"


def _kind(media: str, what: str) -> ArchiveKind | None:
    if media.endswith("zstd"):
        raise Stalled(
            Reason.INVALID_SOURCE,
            f"{what}: layers compressed with zstd are not supported; build it with gzip or without compression",
        )
    return _suffix(media)


def _suffix(media: str) -> ArchiveKind | None:
    return next((kind for end, kind in _KINDS if media.endswith(f".{end}")), None)


def _file(
    entry: Mapping[str, Any], what: str, kind: ArchiveKind | None, title: str | None
) -> RemoteFile:
    """An archive's name is its digest; any other file's its title."""
    name, size = str(entry.get("digest") or ""), file_size(entry.get("size"))
    algorithm, _, value = name.partition(":")
    sha256 = from_hex(Algorithm.SHA256, value) if algorithm == "sha256" else None
    if sha256 is None or size is None:
        raise Stalled(Reason.INVALID_SOURCE, f"{what}: a layer has no SHA-256 digest or no size")
    return RemoteFile(
        path=title or "" if kind is None else f".layer-{sha256}.{kind.value}",
        size=size,
        validator=name,
        locator=name,
        digests=(Digest(Algorithm.SHA256, sha256),),
    )
