"""What S3 tells about an object's content: additional checksums, and when its ETag is an MD5. Pure."""

from collections.abc import Mapping
from types import MappingProxyType

from agent.manifest import Algorithm, Digest
from agent.sources.digests import from_hex, header_digests, strongest_first

# Without it, S3 keeps the checksums to itself.
CHECKSUM_MODE: Mapping[str, str] = MappingProxyType({"x-amz-checksum-mode": "ENABLED"})
_PLAIN_ENCRYPTION = frozenset({"", "AES256"})


def object_digests(headers: Mapping[str, str]) -> tuple[Digest, ...]:
    """Digests of the whole object from the headers of HEAD or of a whole GET, in any case, strongest first.

    Checksums of parts' checksums say nothing of the whole and are left out.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    found = header_digests(headers, whole=True)
    md5 = _etag_md5(headers)
    if md5 is None or any(digest.algorithm is Algorithm.MD5 for digest in found):
        return found
    return strongest_first((*found, md5))


def _etag_md5(headers: Mapping[str, str]) -> Digest | None:
    """The ETag is the content's MD5 when it was uploaded in one part, and not encrypted with a key of its own."""
    if headers.get("x-amz-server-side-encryption", "") not in _PLAIN_ENCRYPTION:
        return None
    if "x-amz-server-side-encryption-customer-algorithm" in headers:
        return None
    value = from_hex(Algorithm.MD5, headers.get("etag", ""))
    return None if value is None else Digest(Algorithm.MD5, value)
