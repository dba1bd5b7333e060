"""An OCI registry: names, logins, manifests. Its token goes to it alone, and its password to its token service alone."""

import asyncio
import hashlib
import os
import re
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from agent.errors import FetchError, Retryable, Stalled
from agent.headers import seconds, sendable
from agent.policy import Endpoint, SourcePolicy
from agent.sources.access import RegistryAccess, tls
from agent.sources.entries import docker_logins
from agent.sources.failures import http_failure
from agent.sources.json_answer import parsed_object
from agent.sources.oci_layers import INDEX_TYPES, MANIFEST_TYPES
from agent.sources.web import Answer, Web
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
)
_NAME = re.compile(
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PAIR = re.compile(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"')
_ASKED = frozenset({200, 401, 404})
_NO_HEAD = frozenset({400, 403, 405, 501})
# What registries themselves refuse to store more of.
_MANIFEST_BYTES = 4 << 20
# What the token specification says of a token that says nothing.
_TOKEN_SECONDS = 60.0
_TOKEN_MARGIN = 0.2


@dataclass(frozen=True, slots=True)
class Image:
    """`reference`: a digest where one is named, else a tag."""

    host: str
    name: str
    reference: str

    @classmethod
    def parse(cls, uri: SourceUri) -> "Image":
        """`oci://host[:port]/name[:tag][@digest]`; raises Stalled(InvalidSource)."""
        rest, at, digest = uri.path.lstrip("/").partition("@")
        name, colon, tag = rest.partition(":")
        if (
            not _HOST.fullmatch(uri.authority)
            or not _NAME.fullmatch(name)
            or (colon and not _TAG.fullmatch(tag))
            or (at and not _DIGEST.fullmatch(digest))
        ):
            raise Stalled(
                Reason.INVALID_SOURCE,
                "the URI must be oci://registry/name, with a :tag or an @sha256:digest",
            )
        host = uri.authority.lower()
        if host in {"docker.io", "index.docker.io"} and "/" not in name:
            name = f"library/{name}"
        return cls(host, name, digest or tag or "latest")

    @property
    def shown(self) -> str:
        mark = "@" if _DIGEST.fullmatch(self.reference) else ":"
        return f"oci://{self.host}/{self.name}{mark}{self.reference}"


class Registry:
    """One repository of a registry."""

    def __init__(self, image: Image, access: RegistryAccess, policy: SourcePolicy) -> None:
        host = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
        base = access.endpoint_url or f"https://{host.get(image.host, image.host)}"
        self.what = image.shown
        self._url = f"{base}/v2/{image.name}"
        self._scope = f"repository:{image.name}:pull"
        logins = {} if access.anonymous else access.logins or own_logins()
        self._login = logins.get(image.host)
        if access.secret and self._login is None:
            raise Stalled(
                Reason.CREDENTIALS_MISSING,
                f"the named credentials hold no login for the registry {image.host}",
            )
        self._web = Web(policy, tls(access))
        self._headers: Mapping[str, str] = {}
        # On a monotonic clock; None = for ever. Whether a login is needed is not known yet.
        self._until: float | None = 0.0
        self._signing_in = asyncio.Lock()

    async def close(self) -> None:
        await self._web.close()

    async def manifest(self, reference: str) -> tuple[str, Mapping[str, Any]]:
        """Its digest and what it says. What was asked for by digest has that digest."""
        answer = await self._get(
            f"{self._url}/manifests/{quote(reference, safe=':')}",
            {"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))},
            most=_MANIFEST_BYTES,
        )
        digest = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        if _DIGEST.fullmatch(reference) and digest != reference:
            raise Stalled(
                Reason.CHECKSUM_MISMATCH, f"{self.what}: the registry's manifest is another"
            )
        found = parsed_object(answer.body)
        if found is None:
            raise Retryable(
                Reason.SOURCE_ERROR, f"{self.what}: the endpoint does not answer as a registry does"
            )
        return digest, found

    def blob_url(self, digest: str) -> str:
        return f"{self._url}/blobs/{quote(digest, safe=':')}"

    async def authorize(self, digest: str) -> tuple[Mapping[str, str], float | None]:
        """Headers for reading a blob, and for how many seconds they are good."""
        async with self._signing_in:
            await self._renew(digest)
        left = None if self._until is None else max(self._until - time.monotonic(), 1.0)
        return self._headers, left

    async def _renew(self, digest: str) -> None:
        if self._expired():
            self._headers = {}
            # Only to be asked for a login: a blob may lie where nothing but a GET is answered.
            url = self.blob_url(digest)
            answer = await self._ask("HEAD", url, {}, most=0, accept=_ASKED | _NO_HEAD)
            if answer.status == 401:
                await self._log_in(answer.headers.get("WWW-Authenticate", ""))
            else:
                self._until = None

    def _expired(self) -> bool:
        return self._until is not None and time.monotonic() >= self._until

    async def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        most: int,
        accept: frozenset[int] = _ASKED,
    ) -> Answer:
        return await self._web.request(
            method,
            url,
            what=self.what,
            headers={**headers, **self._headers},
            accept=accept,
            most=most,
        )

    async def _get(self, url: str, headers: Mapping[str, str], *, most: int) -> Answer:
        """With a login when the registry asks for one."""
        for attempt in range(2):
            if self._expired():
                self._headers = {}
            answer = await self._ask("GET", url, headers, most=most)
            if answer.status == 200:
                if not self._headers:
                    self._until = None
                return answer
            if answer.status == 404:
                raise Stalled(Reason.SOURCE_NOT_FOUND, f"{self.what} does not exist")
            if attempt == 0:
                await self._log_in(answer.headers.get("WWW-Authenticate", ""))
        raise self._denied(401)

    async def _log_in(self, challenge: str) -> None:
        if not sendable(challenge):
            raise self._denied(401)
        scheme, _, rest = challenge.partition(" ")
        said = {name.lower(): value for name, value in _PAIR.findall(rest)}
        if scheme.lower() == "basic" and self._login is not None and self._login[0]:
            self._headers, self._until = {"Authorization": _basic(*self._login)}, None
            return
        if scheme.lower() != "bearer" or not said.get("realm"):
            raise self._denied(401)
        token, good = await self._token(said)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._until = time.monotonic() + good * (1 - _TOKEN_MARGIN)

    async def _token(self, said: Mapping[str, str]) -> tuple[str, float]:
        """From the place that the registry names: it holds the login in trust for it, so only over TLS unless it is the registry."""
        try:
            Endpoint.of(said["realm"])
            realm = urlsplit(said["realm"])
        except ValueError:
            realm = urlsplit("")
        if realm.scheme not in {"http", "https"}:
            raise Stalled(Reason.INVALID_SOURCE, f"{self.what}: its token service has no URL")
        own = urlsplit(self._url)
        plain = realm.scheme == "http" and (own.scheme == "https" or realm.hostname != own.hostname)
        if plain and self._login is not None:
            raise Stalled(
                Reason.SOURCE_NOT_ALLOWED, f"{self.what}: its token service is not protected by TLS"
            )
        service = {"service": said["service"]} if said.get("service") else {}
        scope = said.get("scope") or self._scope
        if self._login is not None and not self._login[0]:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": self._login[1],
                "client_id": "localmodel",
                "scope": scope,
                **service,
            }
            answer = await self._ask_token(said["realm"], {}, urlencode(form).encode())
        else:
            query = urlencode({**service, "scope": scope})
            sent = {} if self._login is None else {"Authorization": _basic(*self._login)}
            mark = "&" if realm.query else "?"
            answer = await self._ask_token(f"{said['realm']}{mark}{query}", sent, None)
        return self._read_token(answer)

    async def _ask_token(self, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        form = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        answer = await self._web.request(
            "POST" if body else "GET",
            url,
            what=f"{self.what}: the token service",
            headers={**headers, **form},
            accept=frozenset({200, 400, 401, 403}),
            body=body,
        )
        if answer.status != 200:
            raise self._denied(answer.status)
        return answer

    def _read_token(self, answer: Answer) -> tuple[str, float]:
        found = parsed_object(answer.body) or {}
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not sendable(token):
            raise Retryable(Reason.SOURCE_ERROR, f"{self.what}: the token service gives no token")
        return token, seconds(found.get("expires_in"), otherwise=_TOKEN_SECONDS)

    def _denied(self, status: int) -> FetchError:
        if self._login is None:
            return Stalled(
                Reason.ACCESS_DENIED,
                f"{self.what} does not exist, or is private and needs credentials ({status})",
            )
        return http_failure(401, self.what)


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def own_logins() -> Mapping[str, tuple[str, str]]:
    """Those of the process's own Docker configuration, for when nothing is named; they go to their own registries only."""
    folder = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    try:
        text = (Path(folder) / "config.json").read_text()
        return docker_logins("the Docker configuration", text)
    except (OSError, RuntimeError, ValueError, Stalled):
        # Absent, or for a credential helper: nobody named it, so nobody is told.
        return {}


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
