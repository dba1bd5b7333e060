"""What a copy may use at each kind of source. No value that is secret ever shows in a repr."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from agent.tls import Tls, verified


def _secret() -> Any:
    return field(default=None, repr=False, metadata={"secret": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What every kind has. endpoint_overridden: the endpoint is a user's `storage.parameters`, the secrets are not."""

    endpoint_url: str | None = None
    anonymous: bool | None = None
    verify_ssl: bool | None = None
    ca_bundle: str | None = field(default=None, repr=False)
    endpoint_overridden: bool = False

    @property
    def secret(self) -> bool:
        """Whether there is anything that strangers must not get."""
        return False

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All that may be asked, when they are named."""
        return () if self.endpoint_url is None else (self.endpoint_url,)


@dataclass(frozen=True, slots=True)
class S3Access(Access):
    access_key_id: str | None = None
    secret_access_key: str | None = _secret()
    session_token: str | None = _secret()
    region: str | None = None
    path_style: bool | None = None

    @property
    def secret(self) -> bool:
        return self.access_key_id is not None and not self.anonymous


@dataclass(frozen=True, slots=True)
class GcsAccess(Access):
    service_account: Mapping[str, Any] | None = _secret()

    @property
    def secret(self) -> bool:
        return self.service_account is not None and not self.anonymous


@dataclass(frozen=True, slots=True)
class HubAccess(Access):
    """A model hub's token: Hugging Face or ModelScope."""

    token: str | None = _secret()

    @property
    def secret(self) -> bool:
        return self.token is not None and not self.anonymous


@dataclass(frozen=True, slots=True)
class AzureAccess(Access):
    """One of: the account's key, a SAS token, a bearer token, a service principal (tenant, client, its secret)."""

    account: str | None = None
    key: str | None = _secret()
    sas: str | None = _secret()
    token: str | None = _secret()
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = _secret()

    @property
    def secret(self) -> bool:
        held = (self.key, self.sas, self.token, self.client_secret)
        return any(one is not None for one in held) and not self.anonymous


@dataclass(frozen=True, slots=True)
class RegistryAccess(Access):
    """logins: user and password by registry host; user "" = the password is an identity token."""

    logins: Mapping[str, tuple[str, str]] | None = _secret()

    @property
    def secret(self) -> bool:
        return bool(self.logins) and not self.anonymous


@dataclass(frozen=True, slots=True)
class HdfsAccess(Access):
    """endpoint_url: the name node's web address; `standby`: others that may be the active one.

    unsupported: the name of a key that asks for what is not here.
    """

    standby: tuple[str, ...] | None = None
    unsupported: str | None = None
    user: str | None = None
    root: str | None = None
    delegation: str | None = _secret()
    headers: Mapping[str, str] | None = _secret()

    @property
    def secret(self) -> bool:
        return bool(self.delegation or self.headers) and not self.anonymous

    @property
    def endpoints(self) -> tuple[str, ...]:
        return () if self.endpoint_url is None else (self.endpoint_url, *(self.standby or ()))


@dataclass(frozen=True, slots=True)
class GitAccess(Access):
    """host: where name and password may go; None = where the admin allows it."""

    user: str | None = None
    password: str | None = _secret()
    host: str | None = None

    @property
    def secret(self) -> bool:
        return self.password is not None and not self.anonymous


@dataclass(frozen=True, slots=True)
class GenericAccess(Access):
    """options: what an entry whose type is the scheme gives to the library."""

    options: Mapping[str, Any] | None = _secret()

    @property
    def secret(self) -> bool:
        return bool(self.options) and not self.anonymous


A = TypeVar("A", bound=Access)


def tls(access: Access) -> Tls:
    """How this access wants certificates to be checked."""
    return Tls(verify=access.verify_ssl is not False, ca_bundle=access.ca_bundle)


def login_tls(access: Access) -> Tls:
    """The same for who is shown the secret itself."""
    return verified(tls(access))


def first(have: A, new: A) -> A:
    return new if have == type(have)() else have


def over(below: A, above: A) -> A:
    """`above` where it says anything, else `below`; secrets of both are never mixed, nor sent to each other's places."""
    if above.secret:
        forgotten: dict[str, Any] = {
            spec.name: None for spec in fields(below) if spec.metadata.get("secret")
        }
        below = replace(below, **forgotten)
    said: dict[str, Any] = {
        spec.name: getattr(above, spec.name)
        for spec in fields(above)
        if getattr(above, spec.name) is not None
    }
    said["endpoint_overridden"] = above.endpoint_url is not None and not above.secret
    return replace(below, **said)
