"""What S3 tells about an object's content: additional checksums, and when its ETag is an MD5. Pure."""

from collections.abc import Mapping
from typing import Any

from agent.manifest import Algorithm, Digest, RemoteFile
from agent.sources.digests import from_base64, from_hex

_FIELDS = (
    ("ChecksumSHA256", Algorithm.SHA256),
    ("ChecksumCRC64NVME", Algorithm.CRC64NVME),
    ("ChecksumCRC32C", Algorithm.CRC32C),
    ("ChecksumCRC32", Algorithm.CRC32),
)
_PLAIN_ENCRYPTION = frozenset({None, "", "AES256"})


def worth_asking(file: RemoteFile) -> bool:
    """Whether a HEAD may tell a digest of it: empty files have nothing to guard."""
    return bool(file.size)


def head_digests(head: Mapping[str, Any]) -> tuple[Digest, ...]:
    """Digests of the whole object, strongest first. Checksums of parts' checksums say nothing of the whole: left out."""
    found = []
    if head.get("ChecksumType") != "COMPOSITE":
        for field, algorithm in _FIELDS:
            value = from_base64(algorithm, str(head.get(field, "")))
            if value is not None:
                found.append(Digest(algorithm, value))
    md5 = _etag_md5(head)
    if md5 is not None:
        found.append(md5)
    order = list(Algorithm)
    return tuple(sorted(found, key=lambda digest: order.index(digest.algorithm)))


def _etag_md5(head: Mapping[str, Any]) -> Digest | None:
    """The ETag is the content's MD5 when it was uploaded in one part, and not encrypted with a key of its own."""
    plain = head.get("ServerSideEncryption") in _PLAIN_ENCRYPTION
    if not plain or head.get("SSECustomerAlgorithm"):
        return None
    value = from_hex(Algorithm.MD5, str(head.get("ETag", "")))
    return None if value is None else Digest(Algorithm.MD5, value)
