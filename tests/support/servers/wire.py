"""Listings that no honest store gives, on the wire: S3's ListObjectsV2 and the GCS JSON API with any keys at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import quote

from aiohttp import web

from tests.support.servers.threaded import Fault, ThreadedApp

ETAG = '"00112233445566778899aabbccddeeff"'


@dataclass(frozen=True)
class Listed:
    """head: what HEAD says of an S3 object beyond its ETag."""

    key: str
    size: int = 3
    etag: str = ETAG
    head: Mapping[str, str] = field(default_factory=dict)


class WireStore:
    """`with WireStore() as wire:` — S3 under `wire.url`, GCS under the same; `wire.objects` is what it lists.

    region: what HEAD of a bucket says, as AWS does. token: what Google's token service gives a service account; None = it refuses.
    """

    def __init__(self, *, page: int = 1000) -> None:
        self.objects: list[Listed] = []
        self.page = page
        self.region: str | None = None
        self.token: str | None = "token"
        self.token_seconds = 3600
        self._server = ThreadedApp("wire")
        routes = self._server.app.router
        routes.add_post("/oauth/token", self._sign_in)
        routes.add_get("/storage/v1/b/{bucket}/o", self._gcs)
        routes.add_get("/storage/v1/b/{bucket}/o/{name:.+}", self._gcs_object)
        routes.add_get("/endless/{name}", self._endless)
        routes.add_get("/{bucket}", self._s3)
        routes.add_get("/{bucket}/{key:.*}", self._s3_object)

    def __enter__(self) -> WireStore:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def server(self) -> ThreadedApp:
        return self._server

    def lists(self, keys: Iterable[str | Listed]) -> None:
        self.objects = [Listed(key) if isinstance(key, str) else key for key in keys]

    def fail(self, fault: Fault | None) -> None:
        self._server.fault = fault

    async def _s3(self, request: web.Request) -> web.Response:
        prefix = request.query.get("prefix", "")
        found = [one for one in self.objects if one.key.startswith(prefix)]
        start = int(request.query.get("continuation-token", "0"))
        count = min(self.page, int(request.query.get("max-keys", "1000")))
        more = start + count < len(found)
        entries = "".join(
            f"<Contents><Key>{quote(one.key, safe='')}</Key><Size>{one.size}</Size>"
            f"<ETag>{one.etag.replace(chr(34), '&quot;')}</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for one in found[start : start + count]
        )
        token = f"<NextContinuationToken>{start + count}</NextContinuationToken>" if more else ""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{request.match_info['bucket']}</Name><Prefix>{quote(prefix)}</Prefix>"
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{token}{entries}</ListBucketResult>"
        )
        headers = {"x-amz-bucket-region": self.region} if self.region else {}
        return web.Response(body=body.encode(), content_type="application/xml", headers=headers)

    async def _s3_object(self, request: web.Request) -> web.Response:
        if not request.match_info["key"]:
            return await self._s3(request)
        one = self._named(request.match_info["key"])
        return web.Response(body=b"x" * one.size, headers={"ETag": one.etag, **one.head})

    async def _gcs(self, request: web.Request) -> web.Response:
        prefix = request.query.get("prefix", "")
        found = [one for one in self.objects if one.key.startswith(prefix)]
        start = int(request.query.get("pageToken", "0"))
        count = min(self.page, int(request.query.get("maxResults", "1000")))
        items = [_item(one) for one in found[start : start + count]]
        answer: dict[str, object] = {"kind": "storage#objects", "items": items}
        if start + count < len(found):
            answer["nextPageToken"] = str(start + count)
        return web.json_response(answer)

    async def _gcs_object(self, request: web.Request) -> web.Response:
        return web.json_response(_item(self._named(request.match_info["name"])))

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        """A body of three bytes whose length is not told, whatever range is asked for."""
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        if request.method != "HEAD":
            await answer.write(b"xyz")
        await answer.write_eof()
        return answer

    async def _sign_in(self, request: web.Request) -> web.Response:
        if self.token is None:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response(
            {
                "access_token": self.token,
                "expires_in": self.token_seconds,
                "token_type": "Bearer",
            }
        )

    def _named(self, key: str) -> Listed:
        for one in self.objects:
            if one.key == key:
                return one
        raise web.HTTPNotFound


def _item(one: Listed) -> dict[str, object]:
    return {"name": one.key, "size": str(one.size), "generation": "17", **one.head}
