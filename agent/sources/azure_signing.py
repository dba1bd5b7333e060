"""How requests to Azure are authorised: a SAS token made from the account's key, a given one, or a bearer token."""

import asyncio
import hmac
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode

from agent.errors import Retryable, Stalled
from agent.headers import seconds, sendable
from agent.policy import SourcePolicy
from agent.sources.access import AzureAccess
from agent.sources.azure_location import Location
from agent.sources.entries import base64_key
from agent.sources.handwritten import Values
from agent.sources.json_answer import parsed_object
from agent.sources.web import Answer, Web
from shared.domain.reasons import Reason

_SAS_VERSION = "2021-12-02"
_SAS_HOURS = 2
# Clocks differ; a token that is not valid yet is refused like a wrong one.
_SAS_EARLY_MINUTES = 15
_SAS_REFRESH_SECONDS = 3600.0
# A bearer token is replaced this long before it ends.
_RENEW_SECONDS = 300.0
_LEAST_SECONDS = 60.0
_RESOURCE = "https://storage.azure.com/"
_LOGIN = "https://login.microsoftonline.com"
_METADATA = "http://169.254.169.254"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_Coming = Coroutine[None, None, tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request needs: a query and headers. seconds: for how long, None = for ever."""

    query: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    seconds: float | None = None

    @property
    def anonymous(self) -> bool:
        return not self.query and not self.headers


class Signer(Protocol):
    async def sign(self) -> Signature:
        """Raises FetchError."""
        ...


def signer(access: AzureAccess, place: Location, web: Web) -> Signer:
    """Named credentials, else what the URI brings, else the process's own identity, else nothing."""
    if access.anonymous:
        return _Fixed(Signature())
    if access.key is not None:
        return _AccountKey(place, access.key)
    if access.sas is not None or place.sas:
        return _Fixed(Signature(query=access.sas or place.sas))
    if access.token is not None:
        return _Fixed(Signature(headers={"Authorization": f"Bearer {access.token}"}))
    if access.client_secret is not None:
        form = {"client_id": access.client_id or "", "client_secret": access.client_secret}
        return _Bearer(place, lambda: _login(web, access.tenant_id or "", form, place))
    return _own(place, web) if place.trusted else _Fixed(Signature())


def _own(place: Location, web: Web) -> Signer:
    """As Azure's libraries do once AZURE_CLIENT_ID is set: a secret, a federated token, or the machine's identity.

    Without it the account's key, if the environment has one.
    """
    client, tenant = os.environ.get("AZURE_CLIENT_ID"), os.environ.get("AZURE_TENANT_ID", "")
    secret, file = (
        os.environ.get(f"AZURE_{name}") for name in ("CLIENT_SECRET", "FEDERATED_TOKEN_FILE")
    )
    key = base64_key(Values(os.environ), "AZURE_STORAGE_ACCESS_KEY")
    if not client:
        return _AccountKey(place, key) if key else _Fixed(Signature())
    if tenant and secret:
        form = {"client_id": client, "client_secret": secret}
        return _Bearer(place, lambda: _login(web, tenant, form, place))
    if tenant and file:
        return _Bearer(place, lambda: _login(web, tenant, _assertion(client, file), place))
    return _Bearer(place, lambda: _machine(client, place))


@dataclass(frozen=True, slots=True)
class _Fixed:
    signature: Signature

    async def sign(self) -> Signature:
        return self.signature


class _AccountKey:
    """A SAS token for reading and listing one container, made anew before it ends."""

    def __init__(self, place: Location, key: str) -> None:
        self._place = place
        self._key = b64decode(key)
        self._made = Signature()
        self._until = 0.0

    async def sign(self) -> Signature:
        if time.monotonic() >= self._until:
            self._until = time.monotonic() + _SAS_REFRESH_SECONDS
            self._made = Signature(self._token(datetime.now(UTC)), seconds=_SAS_REFRESH_SECONDS)
        return self._made

    def _token(self, now: datetime) -> str:
        fields = {
            "sp": "rl",
            "st": _stamp(now - timedelta(minutes=_SAS_EARLY_MINUTES)),
            "se": _stamp(now + timedelta(hours=_SAS_HOURS)),
        }
        resource = f"/blob/{self._place.account}/{self._place.container}"
        # In order: identifier, addresses, protocols, version, kind, snapshot, encryption scope, five headers.
        signed = [*fields.values(), resource, "", "", "", _SAS_VERSION, "c", *[""] * 7]
        mac = hmac.digest(self._key, "\n".join(signed).encode(), "sha256")
        token = {**fields, "sv": _SAS_VERSION, "sr": "c", "sig": b64encode(mac).decode()}
        return urlencode(token)


class _Bearer:
    """A token from `fetch`, which gives it with its seconds; renewed before it ends."""

    def __init__(self, place: Location, fetch: Callable[[], _Coming]) -> None:
        self._what = place.shown
        self._fetch = fetch
        self._token = ""
        self._until = 0.0
        self._signing_in = asyncio.Lock()

    async def sign(self) -> Signature:
        async with self._signing_in:
            if time.monotonic() >= self._until:
                self._token, good = await self._fetch()
                self._until = time.monotonic() + max(good - _RENEW_SECONDS, _LEAST_SECONDS)
        left = max(self._until - time.monotonic(), 1.0)
        return Signature(headers={"Authorization": f"Bearer {self._token}"}, seconds=left)


async def _login(
    web: Web, tenant: str, form: Mapping[str, str], place: Location
) -> tuple[str, float]:
    """A token for a service principal, with the seconds that it is good for."""
    authority = os.environ.get("AZURE_AUTHORITY_HOST", _LOGIN).rstrip("/")
    body = {**form, "grant_type": "client_credentials", "scope": f"{_RESOURCE}.default"}
    answer = await web.request(
        "POST",
        f"{authority}/{quote(tenant, safe='')}/oauth2/v2.0/token",
        what=f"{place.shown}: the token service",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        accept=frozenset({200, 400, 401, 403}),
        body=urlencode(body).encode(),
    )
    if answer.status != 200:
        raise Stalled(
            Reason.ACCESS_DENIED, f"{place.shown}: the service principal is refused{_code(answer)}"
        )
    return _token(answer, place)


def _assertion(client: str, file: str) -> Mapping[str, str]:
    """The token that Kubernetes projects for workload identity; read anew each time, it is rotated."""
    try:
        assertion = Path(file).read_text().strip()
    except OSError as exc:
        raise Stalled(
            Reason.CREDENTIALS_MISSING, "AZURE_FEDERATED_TOKEN_FILE cannot be read"
        ) from exc
    return {
        "client_id": client,
        "client_assertion_type": _ASSERTION,
        "client_assertion": assertion,
    }


async def _machine(client: str, place: Location) -> tuple[str, float]:
    """The machine's managed identity: the one place where the agent itself asks a metadata service."""
    host = os.environ.get("AZURE_POD_IDENTITY_AUTHORITY_HOST", _METADATA).rstrip("/")
    query = urlencode({"api-version": "2018-02-01", "resource": _RESOURCE, "client_id": client})
    async with Web(SourcePolicy.unrestricted()) as web:
        answer = await web.request(
            "GET",
            f"{host}/metadata/identity/oauth2/token?{query}",
            what=f"{place.shown}: the managed identity",
            headers={"Metadata": "true"},
            accept=frozenset({200, 400, 404}),
        )
    if answer.status != 200:
        raise Stalled(Reason.ACCESS_DENIED, f"{place.shown}: this machine has no such identity")
    return _token(answer, place)


def _token(answer: Answer, place: Location) -> tuple[str, float]:
    found = parsed_object(answer.body) or {}
    token = found.get("access_token")
    if not isinstance(token, str) or not sendable(token):
        raise Retryable(
            Reason.SOURCE_ERROR, f"{place.shown}: the token service does not answer as expected"
        )
    return token, seconds(found.get("expires_in"), otherwise=_LEAST_SECONDS)


def _code(answer: Answer) -> str:
    """OAuth's short code, such as invalid_client; its description may quote what was sent."""
    code = (parsed_object(answer.body) or {}).get("error")
    return f" ({code})" if isinstance(code, str) and code.isidentifier() else ""


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
