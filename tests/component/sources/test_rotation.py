"""Credentials that are rotated or revoked while a copy runs: it goes on with the new ones, and moves nothing twice."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aiohttp import web

from agent.copying.access import Reading
from agent.copying.copy import Outcome
from agent.errors import Stalled
from agent.planning.desired import Access
from agent.planning.retry import SecretVersions
from agent.policy import SourcePolicy
from agent.sources.access import S3Access
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.copying import MIB, under_way
from tests.support.servers.s3 import READER, Keys, S3Server
from tests.support.servers.threaded import ThreadedApp

BODY = os.urandom(24 * MIB)
NEW = Keys("NEWREADERNEWREADER01", "new-reader-secret-canary-11bb")


@dataclass
class Secret:
    """What a Secret holds now."""

    credentials: Credentials
    version: int = 1
    reads: int = 0

    async def read(self, access: Access) -> Reading:
        self.reads += 1
        return Reading(await self.versions(access), self.credentials)

    async def versions(self, access: Access) -> SecretVersions:
        return (("Secret/keys", str(self.version)),)


def of(server: S3Server, keys: Keys) -> Credentials:
    access = S3Access(keys.access_key_id, keys.secret_access_key, endpoint_url=server.endpoint)
    return Credentials(s3=access, named=True)


def published(outcome: Outcome, root: Path) -> bytes:
    return (root / "models" / outcome.tree.storage_key / "weights").read_bytes()


@pytest.fixture
def server() -> Iterator[S3Server]:
    """Its own: keys that are gone would be missed elsewhere."""
    with S3Server() as server:
        server.put("models", "m/weights", BODY)
        yield server


async def test_a_copy_survives_the_rotation_of_its_keys(
    server: S3Server, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    secret = Secret(of(server, READER))
    async with under_way("s3://models/m", tmp_path, loopback_policy, secret) as copy:
        await copy.reaches(4 * MIB)
        secret.credentials, secret.version = of(server, NEW), 2
        server.rotate(NEW)
        outcome = await copy.task
        moved, seen = copy.watch.moved, copy.watch.secrets
    assert published(outcome, tmp_path) == BODY
    assert moved < len(BODY) + MIB
    assert secret.reads == 2
    assert list(seen.values()) == [(("Secret/keys", "2"),)]


async def test_keys_that_are_gone_for_good_are_told_after_one_more_look(
    server: S3Server, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    secret = Secret(of(server, READER))
    async with under_way("s3://models/m", tmp_path, loopback_policy, secret) as copy:
        await copy.reaches(4 * MIB)
        server.rotate(NEW)
        with pytest.raises(Stalled) as caught:
            await copy.task
    assert caught.value.reason is Reason.ACCESS_DENIED
    assert "canary" not in caught.value.message
    assert secret.reads == 2


class Registry(ThreadedApp):
    """Takes one token at a time, and says that it is good for an hour. Its blobs lie where only GET is signed for."""

    def __init__(self, body: bytes) -> None:
        super().__init__("revoking-registry")
        self._body = body
        self.tokens = 0
        self.denied = 0
        self._good = ""
        digest = hashlib.sha256(body).hexdigest()
        layer = {
            "mediaType": "application/octet-stream",
            "digest": f"sha256:{digest}",
            "size": len(body),
            "annotations": {"org.opencontainers.image.title": "weights"},
        }
        self._manifest = json.dumps({"schemaVersion": 2, "layers": [layer]}).encode()
        self.app.router.add_get("/token", self._give)
        self.app.router.add_get("/v2/{name:.+}/{kind:manifests|blobs}/{reference}", self._get)

    def revoke(self) -> None:
        self._good = ""

    async def _give(self, _: web.Request) -> web.Response:
        self.tokens += 1
        self._good = f"token-{self.tokens}"
        return web.json_response({"token": self._good, "expires_in": 3600})

    async def _get(self, request: web.Request) -> web.Response:
        if not self._good or request.headers.get("Authorization") != f"Bearer {self._good}":
            self.denied += 1
            challenge = f'Bearer realm="{self.url}/token",service="s"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        if request.match_info["kind"] == "manifests":
            return web.Response(body=self._manifest)
        if request.method == "HEAD":
            return web.Response(status=403)
        if "Range" not in request.headers:
            return web.Response(body=self._body)
        part = request.http_range
        start, stop = part.start or 0, part.stop or len(self._body)
        shown = {"Content-Range": f"bytes {start}-{stop - 1}/{len(self._body)}"}
        return web.Response(status=206, body=self._body[start:stop], headers=shown)


async def test_a_token_that_is_revoked_early_is_asked_for_again(
    loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    registry = Registry(BODY)
    registry.start()
    try:
        credentials = Credentials.from_storage_config({"endpoint_url": registry.url}, {})
        secret = Secret(replace(credentials, named=False))
        uri = "oci://registry.test/a/b:v1"
        async with under_way(uri, tmp_path, loopback_policy, secret) as copy:
            await copy.reaches(4 * MIB)
            registry.revoke()
            outcome = await copy.task
            assert copy.watch.moved < len(BODY) + MIB
        assert published(outcome, tmp_path) == BODY
        assert registry.tokens == 2
    finally:
        registry.stop()
