"""A real container registry (CNCF distribution), and the token service that it sends everybody to."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.client
import io
import json
import tarfile
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.support import binaries
from tests.support.processes import LOOPBACK, free_ports, running, scratch
from tests.support.servers.threaded import ThreadedApp

USER, PASSWORD = "reader", "canary-registry-password"
IDENTITY_TOKEN = "canary-identity-token"
IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
_SERVICE, _ISSUER, _KEY_ID = "registry.test", "issuer.test", "key-1"


class RegistryServer(contextlib.ExitStack):
    """`with RegistryServer() as registry:` — `registry.endpoint` serves `public/…` to all and the rest to USER.

    tokens: the token service; `tokens.seen` are its requests. token_seconds: how long its tokens are good.
    """

    def __init__(self) -> None:
        super().__init__()
        self.token_seconds = 300
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.tokens = ThreadedApp("registry-tokens")
        self.tokens.app.router.add_get("/token", self._give)
        self.tokens.app.router.add_post("/token", self._give)

    def __enter__(self) -> RegistryServer:
        super().__enter__()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def push_image(
        self, name: str, tag: str, layers: Sequence[dict[str, Any]], *, config: str = EMPTY_CONFIG
    ) -> str:
        """A manifest over layers that `layer` made; returns its digest."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST,
            "config": self.layer(name, b"{}", config),
            "layers": list(layers),
        }
        return self.push_manifest(name, tag, manifest)

    def push_manifest(self, name: str, reference: str, manifest: Mapping[str, Any]) -> str:
        body = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        path = f"/v2/{name}/manifests/{reference or digest}"
        self._send(name, "PUT", path, body, str(manifest["mediaType"]))
        return digest

    def layer(
        self,
        name: str,
        content: bytes,
        media_type: str = LAYER,
        *,
        title: str | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Stores a blob; returns what a manifest says of it."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        location = self._send(name, "POST", f"/v2/{name}/blobs/uploads/", b"", "")
        parts = urlsplit(location)
        path = f"{parts.path}?{parts.query}{'&' if parts.query else ''}digest={digest}"
        self._send(name, "PUT", path, content, "application/octet-stream")
        notes = dict(annotations or {})
        if title is not None:
            notes["org.opencontainers.image.title"] = title
        found: dict[str, Any] = {
            "mediaType": media_type,
            "digest": digest,
            "size": len(content),
        }
        return {**found, "annotations": notes} if notes else found

    def delete_blob(self, name: str, digest: str) -> None:
        """As a garbage collection does that knows of no manifest with it."""
        self._send(name, "DELETE", f"/v2/{name}/blobs/{digest}", b"", "")

    def _send(self, name: str, method: str, path: str, body: bytes, kind: str) -> str:
        token = self._token([_access(name, ["pull", "push", "delete"])])
        host = self.endpoint.removeprefix("http://")
        with contextlib.closing(http.client.HTTPConnection(host, timeout=30)) as connection:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {said[:500]!r}")
            return answer.headers.get("Location", "")

    def _start(self) -> None:
        folder = self.enter_context(scratch("registry"))
        self.tokens.start()
        self.callback(self.tokens.stop)
        numbers = self._key.public_key().public_numbers()
        key = {
            **{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": _KEY_ID},
            "x": _url64(numbers.x.to_bytes(32, "big")),
            "y": _url64(numbers.y.to_bytes(32, "big")),
        }
        (folder / "jwks.json").write_text(json.dumps({"keys": [key]}))
        (port,) = free_ports(1)
        self.endpoint = f"http://{LOOPBACK}:{port}"
        config = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {
                **{"inmemory": {}, "cache": {"blobdescriptor": "inmemory"}},
                "delete": {"enabled": True},
            },
            "http": {"addr": f"{LOOPBACK}:{port}", "secret": "test"},
            "auth": {
                "token": {
                    "realm": f"{self.tokens.url}/token",
                    "service": _SERVICE,
                    "issuer": _ISSUER,
                    "jwks": str(folder / "jwks.json"),
                    "signingalgorithms": ["ES256"],
                }
            },
        }
        (folder / "config.yml").write_text(yaml.safe_dump(config))
        program = binaries.find(binaries.SERVERS)["registry"]
        self.enter_context(
            running(
                [program, "serve", folder / "config.yml"],
                log=folder / "log",
                ready=f"{self.endpoint}/v2/",
                environment={"OTEL_TRACES_EXPORTER": "none"},
            )
        )

    async def _give(self, request: web.Request) -> web.Response:
        """As Docker Hub does: strangers get a token too, but one that opens only what is public."""
        asked = {name: request.query.get(name, "") for name in ("service", "scope")}
        known = False
        if request.method == "POST":
            form = {name: values[0] for name, values in parse_qs(await request.text()).items()}
            asked = {name: form.get(name, "") for name in asked}
            known = form.get("refresh_token") == IDENTITY_TOKEN
            if not known:
                return web.json_response({"error": "invalid_grant"}, status=400)
        elif "Authorization" in request.headers:
            pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            known = request.headers["Authorization"] == f"Basic {pair}"
            if not known:
                return web.json_response({"errors": []}, status=401)
        _, name, _ = asked["scope"].split(":")
        access = [_access(name, ["pull"])] if known or name.startswith("public/") else []
        return web.json_response({"token": self._token(access), "expires_in": self.token_seconds})

    def _token(self, access: Sequence[Mapping[str, object]]) -> str:
        now = int(time.time())
        claims = {
            **{"iss": _ISSUER, "sub": "", "aud": _SERVICE, "jti": str(time.monotonic_ns())},
            **{"iat": now, "nbf": now - 10, "exp": now + 300, "access": list(access)},
        }
        header = {"typ": "JWT", "alg": "ES256", "kid": _KEY_ID}
        text = ".".join(_url64(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_url64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def tar_of(files: Mapping[str, bytes], *, packed: bool = False) -> bytes:
    """A layer's tar; `packed`: with gzip."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(out.getvalue(), 1) if packed else out.getvalue()


def _access(name: str, actions: list[str]) -> dict[str, object]:
    return {"type": "repository", "name": name, "actions": actions}


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
