"""Answers to listings, as stores write them."""

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

# Objects of a page, as S3 has it.
PAGE = 1000


class Listed(NamedTuple):
    """An object of a bucket. etag: without quotes."""

    key: str
    size: int
    etag: str


def s3_page(bucket: str, prefix: str, objects: Iterable[Listed], following: str | None) -> str:
    """following: the token of the next page, for both versions of the call; None = this is the last one."""
    entries = "".join(
        f"<Contents><Key>{one.key}</Key><Size>{one.size}</Size>"
        f"<ETag>&quot;{one.etag}&quot;</ETag><StorageClass>STANDARD</StorageClass>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        for one in objects
    )
    more = (
        f"<NextContinuationToken>{quote(following)}</NextContinuationToken><NextMarker>{following}</NextMarker>"
        if following
        else ""
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket}</Name><Prefix>{prefix}</Prefix><MaxKeys>{PAGE}</MaxKeys>"
        f"<IsTruncated>{str(following is not None).lower()}</IsTruncated>{more}{entries}</ListBucketResult>"
    )
