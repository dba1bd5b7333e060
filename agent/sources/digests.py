"""Digests that HTTP servers state in headers. Pure."""

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Iterable, Iterator, Mapping

from agent.manifest import Algorithm, Digest

_LENGTHS: Mapping[Algorithm, int] = {
    Algorithm.SHA256: 32,
    Algorithm.GIT_SHA1: 20,
    Algorithm.MD5: 16,
    Algorithm.CRC64NVME: 8,
    Algorithm.CRC32C: 4,
    Algorithm.CRC32: 4,
}
# RFC 9530 and RFC 3230, and what S3, GCS and artifact repositories add.
_NAMES = {"sha-256": Algorithm.SHA256, "md5": Algorithm.MD5, "crc32c": Algorithm.CRC32C}
_BASE64 = {
    "x-amz-checksum-sha256": Algorithm.SHA256,
    "x-amz-checksum-crc64nvme": Algorithm.CRC64NVME,
    "x-amz-checksum-crc32c": Algorithm.CRC32C,
    "x-amz-checksum-crc32": Algorithm.CRC32,
}
_RANKS = {algorithm: rank for rank, algorithm in enumerate(Algorithm)}
_HEX_TEXT = re.compile("[0-9a-f]+")
_HEX = {"x-checksum-sha256": Algorithm.SHA256, "x-checksum-md5": Algorithm.MD5}


def header_digests(headers: Mapping[str, str], *, whole: bool) -> tuple[Digest, ...]:
    """Digests of the whole file, strongest first. `whole`: the answer was not to a range, so `Content-MD5` counts too.

    Malformed values are left out: a server that states nonsense is verified by size alone.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    if lower.get("content-encoding", "identity").lower() != "identity":
        return ()
    found: dict[Algorithm, Digest] = {}
    for algorithm, value in _stated(lower, whole):
        found.setdefault(algorithm, Digest(algorithm, value))
    return strongest_first(found.values())


def strongest_first(digests: Iterable[Digest]) -> tuple[Digest, ...]:
    return tuple(sorted(digests, key=lambda digest: _RANKS[digest.algorithm]))


def from_base64(algorithm: Algorithm, text: str) -> str | None:
    """Lower-case hex, or None when the text is not the base64 of such a digest."""
    try:
        raw = b64decode(text.strip(), validate=True)
    except (Error, ValueError):
        return None
    return raw.hex() if len(raw) == _LENGTHS[algorithm] else None


def from_hex(algorithm: Algorithm, text: str) -> str | None:
    value = text.strip().strip('"').lower()
    plain = len(value) == 2 * _LENGTHS[algorithm] and _HEX_TEXT.fullmatch(value)
    return value if plain else None


def _stated(lower: Mapping[str, str], whole: bool) -> Iterator[tuple[Algorithm, str]]:
    for header in ("repr-digest", "digest", "x-goog-hash"):
        for item in lower[header].split(",") if header in lower else ():
            name, separator, value = item.strip().partition("=")
            algorithm = _NAMES.get(name.strip().lower())
            if separator and algorithm is not None:
                digest = from_base64(algorithm, value.strip().strip(":"))
                if digest is not None:
                    yield algorithm, digest
    composite = lower.get("x-amz-checksum-type", "").upper() == "COMPOSITE"
    for header, algorithm in _BASE64.items() if whole and not composite else ():
        digest = from_base64(algorithm, lower[header]) if header in lower else None
        if digest is not None:
            yield algorithm, digest
    for header, algorithm in _HEX.items():
        digest = from_hex(algorithm, lower[header]) if header in lower else None
        if digest is not None:
            yield algorithm, digest
    if whole and "content-md5" in lower:
        digest = from_base64(Algorithm.MD5, lower["content-md5"])
        if digest is not None:
            yield Algorithm.MD5, digest
