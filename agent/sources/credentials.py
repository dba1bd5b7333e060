"""Credentials that a copy may use, and pure parsers of the Secrets that hold them. No value ever shows in a repr."""

import json
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, TypeVar

from agent.sources.handwritten import Values, invalid, one_word
from agent.tls import Tls

_GCS_KEY = "gcloud-application-credentials.json"
_ANNOTATION = "serving.kserve.io/"
# Types of storage-config entries, as KServe and its users spell them, and the URI schemes they serve.
_TYPES: Mapping[str, str] = MappingProxyType(
    {"s3": "s3", "gs": "gs", "gcs": "gs", "hf": "hf", "http": "http", "https": "http"}
)
# Others make google-auth read local files, run programs or post tokens where the JSON says.
_GCS_TYPES = frozenset({"service_account", "authorized_user"})


@dataclass(frozen=True, slots=True)
class S3Access:
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool | None = None
    path_style: bool | None = None
    verify_ssl: bool | None = None
    ca_bundle: str | None = field(default=None, repr=False)
    endpoint_overridden: bool = False

    @property
    def secret(self) -> bool:
        return self.access_key_id is not None and not self.anonymous


@dataclass(frozen=True, slots=True)
class GcsAccess:
    service_account: Mapping[str, Any] | None = field(default=None, repr=False)
    endpoint_url: str | None = None
    anonymous: bool | None = None
    verify_ssl: bool | None = None
    ca_bundle: str | None = field(default=None, repr=False)
    endpoint_overridden: bool = False

    @property
    def secret(self) -> bool:
        return self.service_account is not None and not self.anonymous


@dataclass(frozen=True, slots=True)
class HfAccess:
    token: str | None = field(default=None, repr=False)
    endpoint_url: str | None = None
    anonymous: bool | None = None
    verify_ssl: bool | None = None
    ca_bundle: str | None = field(default=None, repr=False)
    endpoint_overridden: bool = False

    @property
    def secret(self) -> bool:
        return self.token is not None and not self.anonymous


# endpoint_overridden: the endpoint comes from a user's `storage.parameters`, the secrets do not.
Access = S3Access | GcsAccess | HfAccess
_A = TypeVar("_A", S3Access, GcsAccess, HfAccess)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Per backend what was found; all empty = the process's own identity, else anonymous.

    named: they come from something that was named, so a backend that finds nothing for itself must not go on without.
    kind: the scheme that a storage-config entry says it is for.
    """

    s3: S3Access = S3Access()
    gcs: GcsAccess = GcsAccess()
    hf: HfAccess = HfAccess()
    named: bool = False
    kind: str | None = None

    @classmethod
    def from_secret(
        cls, data: Mapping[str, bytes], annotations: Mapping[str, str]
    ) -> "Credentials":
        """What one of a ServiceAccount's Secrets holds; raises `Stalled(CredentialsInvalid)` naming the key."""
        values = Values({key: _utf8(key, value) for key, value in data.items() if key in _KEYS})
        notes = Values(
            {
                key: value
                for key, value in annotations.items()
                if key.startswith(f"{_ANNOTATION}s3-")
            }
        )
        service_account = values.text(_GCS_KEY)
        s3 = S3Access(
            access_key_id=values.text("AWS_ACCESS_KEY_ID"),
            secret_access_key=values.text("AWS_SECRET_ACCESS_KEY"),
            session_token=values.text("AWS_SESSION_TOKEN"),
            endpoint_url=_annotated_endpoint(notes),
            region=notes.text(f"{_ANNOTATION}s3-region"),
            anonymous=notes.flag(f"{_ANNOTATION}s3-useanoncredential"),
            verify_ssl=notes.flag(f"{_ANNOTATION}s3-verifyssl"),
            ca_bundle=notes.text(f"{_ANNOTATION}s3-cabundle"),
        )
        _require_pair(s3, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        return cls(
            s3=s3,
            gcs=GcsAccess(
                service_account=None
                if service_account is None
                else _service_account(_GCS_KEY, service_account)
            ),
            hf=HfAccess(token=one_word("HF_TOKEN", values.text("HF_TOKEN"))),
            named=True,
        )

    @classmethod
    def from_storage_config(
        cls, entry: Mapping[str, Any], parameters: Mapping[str, str]
    ) -> "Credentials":
        """An entry of the `storage-config` Secret, overridden by `storage.parameters`; either may be empty.

        Raises `Stalled(CredentialsInvalid)` naming the key.
        """
        values = Values(entry)
        kind = _kind(values)
        found = cls(s3=_s3(values), gcs=_gcs(values), hf=_hf(values), named=bool(entry), kind=kind)
        _require_pair(found.s3, "access_key_id", "secret_access_key")
        return found.with_parameters(parameters)

    @classmethod
    def merged(cls, found: Iterable["Credentials"]) -> "Credentials":
        """Several Secrets of one ServiceAccount: for each backend the first that says anything of it stands."""
        result = cls()
        for one in found:
            result = cls(
                s3=_first(result.s3, one.s3),
                gcs=_first(result.gcs, one.gcs),
                hf=_first(result.hf, one.hf),
                named=result.named or one.named,
                kind=result.kind or one.kind,
            )
        return result

    def with_parameters(self, parameters: Mapping[str, str]) -> "Credentials":
        """These, with a user's `storage.parameters` on top. Raises `Stalled(CredentialsInvalid)` naming the key."""
        if not parameters:
            return self
        values = Values(parameters, prefix="storage.parameters.")
        s3, gcs, hf = _s3(values), _gcs(values), _hf(values)
        _require_pair(
            s3, "storage.parameters.access_key_id", "storage.parameters.secret_access_key"
        )
        return replace(
            self,
            s3=_over(replace(self.s3, session_token=None) if s3.secret else self.s3, s3),
            gcs=_over(self.gcs, gcs),
            hf=_over(self.hf, hf),
            kind=_kind(values) or self.kind,
        )


def tls(access: Access) -> Tls:
    """How this access wants certificates to be checked."""
    return Tls(verify=access.verify_ssl is not False, ca_bundle=access.ca_bundle)


_KEYS = frozenset(
    {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", _GCS_KEY}
)


def _s3(values: Values) -> S3Access:
    style = values.text("addressing_style")
    if style not in {None, "auto", "path", "virtual"}:
        raise invalid(f"{values.named('addressing_style')} must be auto, path or virtual")
    return S3Access(
        access_key_id=values.text("access_key_id"),
        secret_access_key=values.text("secret_access_key"),
        session_token=values.text("session_token"),
        endpoint_url=values.url("endpoint_url"),
        region=values.text("region"),
        anonymous=values.flag("anonymous"),
        path_style=None if style in {None, "auto"} else style == "path",
        verify_ssl=values.flag("verify_ssl"),
        ca_bundle=_bundle(values),
    )


def _gcs(values: Values) -> GcsAccess:
    account = None
    encoded, plain = values.text("base64_service_account"), values.text("service_account")
    if encoded is not None:
        name = values.named("base64_service_account")
        try:
            account = _service_account(name, b64decode(encoded, validate=True).decode())
        except ValueError:
            raise invalid(f"{name} is not base64 of a service account's JSON") from None
    elif plain is not None:
        account = _service_account(values.named("service_account"), plain)
    return GcsAccess(
        service_account=account,
        endpoint_url=values.url("endpoint_url"),
        anonymous=values.flag("anonymous"),
        verify_ssl=values.flag("verify_ssl"),
        ca_bundle=_bundle(values),
    )


def _hf(values: Values) -> HfAccess:
    return HfAccess(
        token=one_word(values.named("token"), values.text("token")),
        endpoint_url=values.url("endpoint_url"),
        anonymous=values.flag("anonymous"),
        verify_ssl=values.flag("verify_ssl"),
        ca_bundle=_bundle(values),
    )


def _bundle(values: Values) -> str | None:
    return values.text("ca_bundle") or values.text("certificate")


def _kind(values: Values) -> str | None:
    kind = values.text("type")
    return None if kind is None else _TYPES.get(kind.lower(), kind.lower())


def _annotated_endpoint(notes: Values) -> str | None:
    """`s3-endpoint` is a host, or a URL; `s3-usehttps` chooses the scheme of a mere host."""
    key = f"{_ANNOTATION}s3-endpoint"
    endpoint, https = notes.text(key), notes.flag(f"{_ANNOTATION}s3-usehttps")
    if endpoint is None or "://" in endpoint:
        return notes.url(key)
    return Values({key: f"{'http' if https is False else 'https'}://{endpoint}"}).url(key)


def _service_account(key: str, text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise invalid(f"{key} is not JSON") from None
    if not isinstance(found, dict) or found.get("type") not in _GCS_TYPES:
        raise invalid(f"{key} must be the JSON of a service account or an authorized user")
    needed = (
        ("client_email", "private_key", "token_uri")
        if found["type"] == "service_account"
        else ("client_id", "client_secret", "refresh_token")
    )
    for name in needed:
        if not isinstance(found.get(name), str) or not found[name]:
            raise invalid(f"{key} lacks {name}")
    return found


def _utf8(key: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise invalid(f"{key} is not UTF-8 text") from None


def _require_pair(access: S3Access, key_name: str, secret_name: str) -> None:
    if (access.access_key_id is None) != (access.secret_access_key is None):
        missing = key_name if access.access_key_id is None else secret_name
        raise invalid(f"{missing} is missing or empty")
    for name, value in ((key_name, access.access_key_id), (secret_name, access.secret_access_key)):
        one_word(name, value)


def _first(have: _A, new: _A) -> _A:
    return new if have == type(have)() else have


def _over(below: _A, above: _A) -> _A:
    """`above` where it says anything, else `below`."""
    said: dict[str, Any] = {
        spec.name: getattr(above, spec.name)
        for spec in fields(above)
        if getattr(above, spec.name) is not None
    }
    said["endpoint_overridden"] = above.endpoint_url is not None and not above.secret
    return replace(below, **said)
