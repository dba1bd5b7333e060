"""Azure's storage emulator (Azurite) over TLS, and a token service whose tokens it takes."""

from __future__ import annotations

import contextlib
import json
import time
from base64 import b64encode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

from aiohttp import web
from azure.core.credentials import AzureNamedKeyCredential
from azure.storage.blob import (
    BlobServiceClient,
    ContainerSasPermissions,
    ContentSettings,
    generate_container_sas,
)

from tests.support import npm
from tests.support.certificates import Authority
from tests.support.processes import LOOPBACK, free_ports, running, scratch
from tests.support.servers.threaded import ThreadedApp

ACCOUNT = "testaccount"
KEY = b64encode(b"canary-account-key-of-the-tests!").decode()
OTHER_KEY = b64encode(b"canary-another-key-of-the-tests!").decode()
TENANT, CLIENT, CLIENT_SECRET = "tenant-1", "client-1", "canary-client-secret"


class AzureServer(contextlib.ExitStack):
    """`with AzureServer() as azure:` — `azure.endpoint` is the account's URL; `azure.authority` signed its certificate."""

    def __enter__(self) -> AzureServer:
        super().__enter__()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def make_container(self, name: str, *, public: bool = False) -> None:
        self._client.create_container(name, public_access="container" if public else None)

    def put(
        self, container: str, name: str, content: bytes, *, metadata: dict[str, str] | None = None
    ) -> None:
        """As small uploads do, with the MD5 that the service computes."""
        self._client.get_blob_client(container, name).upload_blob(
            content, overwrite=True, metadata=metadata
        )

    def put_with_md5(self, container: str, name: str, content: bytes, md5: bytes) -> None:
        """With the MD5 that somebody states afterwards, which the service does not check."""
        blob = self._client.get_blob_client(container, name)
        blob.upload_blob(content, overwrite=True)
        blob.set_http_headers(ContentSettings(content_md5=bytearray(md5)))

    def sas(self, container: str) -> str:
        return generate_container_sas(
            ACCOUNT,
            container,
            account_key=KEY,
            permission=ContainerSasPermissions(read=True, list=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )

    def _start(self) -> None:
        folder = self.enter_context(scratch("azure"))
        authority = Authority(folder / "tls")
        certificate, key = authority.issue("server", common_name="localhost")
        self.authority = authority.certificate
        (port,) = free_ports(1)
        self.endpoint = f"https://localhost:{port}/{ACCOUNT}"
        node, program = npm.azurite()
        self.enter_context(
            running(
                [
                    node,
                    program,
                    *("--blobHost", LOOPBACK, "--blobPort", str(port)),
                    *("--cert", certificate, "--key", key, "--oauth", "basic"),
                    "--inMemoryPersistence",
                    *("--skipApiVersionCheck", "--disableTelemetry", "--silent"),
                ],
                log=folder / "log",
                ready=f"https://localhost:{port}/",
                authority=authority.certificate,
                environment={"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
                seconds=60,
            )
        )
        self._client = self.enter_context(
            BlobServiceClient(
                self.endpoint,
                credential=AzureNamedKeyCredential(ACCOUNT, KEY),
                connection_verify=str(authority.certificate),
            )
        )


class TokenService:
    """Microsoft's login, and a machine's metadata service: `requests` are the forms and queries that came."""

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        self.seconds = 3600
        self.server = ThreadedApp("azure-login")
        routes = self.server.app.router
        routes.add_post(f"/{TENANT}/oauth2/v2.0/token", self._login)
        routes.add_get("/metadata/identity/oauth2/token", self._machine)

    def __enter__(self) -> TokenService:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    @property
    def url(self) -> str:
        return self.server.url

    async def _login(self, request: web.Request) -> web.Response:
        form = {name: values[0] for name, values in parse_qs(await request.text()).items()}
        self.requests.append(form)
        proofs = {"client_secret": CLIENT_SECRET, "client_assertion": "canary-assertion"}
        if form.get("client_id") != CLIENT or not any(
            form.get(name) == value for name, value in proofs.items()
        ):
            return web.json_response({"error": "invalid_client"}, status=401)
        return self._answer()

    async def _machine(self, request: web.Request) -> web.Response:
        self.requests.append(dict(request.query))
        if request.headers.get("Metadata") != "true":
            return web.Response(status=400)
        return self._answer()

    def _answer(self) -> web.Response:
        """Azurite looks at who the token is for and when it ends, not at its signature."""
        now = int(time.time())
        claims = {
            "aud": "https://storage.azure.com",
            "iss": f"https://sts.windows.net/{TENANT}/",
            "iat": now,
            "nbf": now - 60,
            "exp": now + 3600,
        }
        parts = ({"alg": "HS256", "typ": "JWT"}, claims)
        encoded = [_url64(json.dumps(part).encode()) for part in parts]
        token = ".".join((*encoded, _url64(b"signature")))
        return web.json_response({"access_token": token, "expires_in": self.seconds})


def _url64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
