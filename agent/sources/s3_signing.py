"""Presigned URLs for the objects of one bucket, without botocore's detour of 0.3 ms through its endpoint rules each."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import RefreshableCredentials

_PROBE = "k"
# Presigned URLs live an hour; who uses them asks again with room to spare.
URL_SECONDS = 3600
_REFRESH_SECONDS = 3000.0
# Credentials that are renewed in the background are good for ten more minutes at least when they are handed out.
_TEMPORARY_SECONDS = 540.0


class Presigner:
    """Signs what `client` would sign; `credentials` None = nothing is signed."""

    def __init__(self, base: str, region: str, credentials: Any | None) -> None:
        self._base = base
        self._region = region
        self._credentials = credentials

    @classmethod
    async def of(cls, client: Any, bucket: str, credentials: Any | None) -> "Presigner":
        """Asks the client once what the bucket's URLs look like: path style, virtual host, region, endpoint."""
        url = await client.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": _PROBE}
        )
        base = url.partition("?")[0].removesuffix(_PROBE)
        return cls(base, client.meta.region_name, credentials)

    @property
    def valid_seconds(self) -> float | None:
        if self._credentials is None:
            return None
        if isinstance(self._credentials, RefreshableCredentials):
            return _TEMPORARY_SECONDS
        return _REFRESH_SECONDS

    async def url(self, method: str, key: str, *, headers: Mapping[str, str] | None = None) -> str:
        """`headers` become part of the signature and must be sent along; others may be added freely."""
        url = self._base + quote(key, safe="/~")
        if self._credentials is None:
            return url
        frozen = await self._credentials.get_frozen_credentials()
        request = AWSRequest(method, url, headers=dict(headers or {}))
        S3SigV4QueryAuth(frozen, "s3", self._region, expires=URL_SECONDS).add_auth(request)
        return str(request.url)
