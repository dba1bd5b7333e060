"""Credentials that a copy may use, and pure parsers of the Secrets that hold them. No value ever shows in a repr."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.sources import entries
from agent.sources.access import (
    Access,
    AzureAccess,
    GcsAccess,
    GenericAccess,
    GitAccess,
    HdfsAccess,
    HubAccess,
    RegistryAccess,
    S3Access,
    first,
    over,
)
from agent.sources.handwritten import Values, invalid, one_word

_ANNOTATION = "serving.kserve.io/"
_GCS_KEY = "gcloud-application-credentials.json"
_DOCKER_KEY = ".dockerconfigjson"
_HDFS_KEYS = (
    "HDFS_NAMENODE",
    "HDFS_ROOTPATH",
    "HDFS_DELEGATION_TOKEN",
    "USER_PROXY",
    "HEADERS",
    "TLS_CA",
    "TLS_CERT",
    "TLS_KEY",
    "TLS_SKIP_VERIFY",
    "KERBEROS_PRINCIPAL",
    "KERBEROS_KEYTAB",
)
# KServe's older names come first, as there.
_AZURE_KEYS: Mapping[str, tuple[str, ...]] = {
    "tenant_id": ("AZ_TENANT_ID", "AZURE_TENANT_ID"),
    "client_id": ("AZ_CLIENT_ID", "AZURE_CLIENT_ID"),
    "client_secret": ("AZ_CLIENT_SECRET", "AZURE_CLIENT_SECRET"),
    "account_key": ("AZURE_STORAGE_ACCESS_KEY",),
    "sas_token": ("AZURE_STORAGE_SAS_TOKEN",),
    "access_token": ("AZURE_ACCESS_TOKEN",),
    "account_name": ("AZURE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
    "endpoint_url": ("AZURE_SERVICE_URL",),
}
_GIT_KEYS: Mapping[str, str] = {
    "username": "GIT_USERNAME",
    "password": "GIT_PASSWORD",
    "host": "GIT_HOST",
}
_KEYS = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "HF_TOKEN",
        "MODELSCOPE_API_TOKEN",
        _GCS_KEY,
        _DOCKER_KEY,
        *_HDFS_KEYS,
        *_GIT_KEYS.values(),
        *(name for names in _AZURE_KEYS.values() for name in names),
    }
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Per kind of source what was found; all empty = the process's own identity, else anonymous.

    named: they come from something that was named, so a source that finds nothing for itself must not go on without.
    kind: the kind of source that a storage-config entry says it is for.
    """

    s3: S3Access = field(default_factory=S3Access)
    gcs: GcsAccess = field(default_factory=GcsAccess)
    hf: HubAccess = field(default_factory=HubAccess)
    modelscope: HubAccess = field(default_factory=HubAccess)
    azure: AzureAccess = field(default_factory=AzureAccess)
    registry: RegistryAccess = field(default_factory=RegistryAccess)
    hdfs: HdfsAccess = field(default_factory=HdfsAccess)
    git: GitAccess = field(default_factory=GitAccess)
    http: Access = field(default_factory=Access)
    generic: GenericAccess = field(default_factory=GenericAccess)
    named: bool = False
    kind: str | None = None

    @classmethod
    def from_secret(
        cls, data: Mapping[str, bytes], annotations: Mapping[str, str]
    ) -> "Credentials":
        """What one of a ServiceAccount's Secrets holds; raises `Stalled(CredentialsInvalid)` naming the key."""
        texts = {key: _utf8(key, value) for key, value in data.items() if key in _KEYS}
        values = Values(texts)
        notes = Values(
            {
                key: value
                for key, value in annotations.items()
                if key.startswith(f"{_ANNOTATION}s3-")
            }
        )
        service_account, docker = values.text(_GCS_KEY), values.text(_DOCKER_KEY)
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
        gcs = GcsAccess(
            service_account=None
            if service_account is None
            else entries.service_account(_GCS_KEY, service_account)
        )
        azure = entries.azure(Values(texts, names=_found(values, _AZURE_KEYS)))
        _require_principal(azure)
        return cls(
            s3=s3,
            gcs=gcs,
            hf=HubAccess(token=one_word("HF_TOKEN", values.text("HF_TOKEN"))),
            modelscope=HubAccess(
                token=one_word("MODELSCOPE_API_TOKEN", values.text("MODELSCOPE_API_TOKEN"))
            ),
            azure=azure,
            registry=RegistryAccess(
                logins=None if docker is None else entries.docker_logins(_DOCKER_KEY, docker)
            ),
            hdfs=entries.hdfs(values),
            git=entries.git(Values(texts, names=_GIT_KEYS)),
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
        found = replace(_read(values), generic=entries.generic(entry), named=bool(entry))
        _require_pair(found.s3, "access_key_id", "secret_access_key")
        _require_principal(found.azure)
        return found.with_parameters(parameters)

    @classmethod
    def merged(cls, found: Iterable["Credentials"]) -> "Credentials":
        """Several Secrets of one ServiceAccount: for each kind the first that says anything of it stands."""
        result = cls()
        for one in found:
            result = cls(
                s3=first(result.s3, one.s3),
                gcs=first(result.gcs, one.gcs),
                hf=first(result.hf, one.hf),
                modelscope=first(result.modelscope, one.modelscope),
                azure=first(result.azure, one.azure),
                registry=first(result.registry, one.registry),
                hdfs=first(result.hdfs, one.hdfs),
                git=first(result.git, one.git),
                http=first(result.http, one.http),
                generic=first(result.generic, one.generic),
                named=result.named or one.named,
                kind=result.kind or one.kind,
            )
        return result

    def with_parameters(self, parameters: Mapping[str, str]) -> "Credentials":
        """These, with a user's `storage.parameters` on top. Raises `Stalled(CredentialsInvalid)` naming the key."""
        if not parameters:
            return self
        said = _read(Values(parameters, prefix="storage.parameters."))
        _require_pair(
            said.s3, "storage.parameters.access_key_id", "storage.parameters.secret_access_key"
        )
        # The host that a stored password is for is not a user's to say.
        git = said.git if said.git.secret else replace(said.git, host=None)
        return replace(
            self,
            s3=over(self.s3, said.s3),
            gcs=over(self.gcs, said.gcs),
            hf=over(self.hf, said.hf),
            modelscope=over(self.modelscope, said.modelscope),
            azure=over(self.azure, said.azure),
            registry=over(self.registry, said.registry),
            hdfs=over(self.hdfs, said.hdfs),
            git=over(self.git, git),
            http=over(self.http, said.http),
            kind=said.kind or self.kind,
        )


def _read(values: Values) -> Credentials:
    hub = entries.hub(values)
    return Credentials(
        s3=entries.s3(values),
        gcs=entries.gcs(values),
        hf=hub,
        modelscope=hub,
        azure=entries.azure(values),
        registry=entries.registry(values),
        hdfs=entries.hdfs(values),
        git=entries.git(values),
        http=Access(**entries.common(values)),
        kind=entries.kind(values),
    )


def _found(values: Values, names: Mapping[str, tuple[str, ...]]) -> Mapping[str, str]:
    """For each key the first of its names that has a value."""
    return {
        key: next((name for name in several if values.text(name) is not None), several[-1])
        for key, several in names.items()
    }


def _annotated_endpoint(notes: Values) -> str | None:
    """`s3-endpoint` is a host, or a URL; `s3-usehttps` chooses the scheme of a mere host."""
    key = f"{_ANNOTATION}s3-endpoint"
    endpoint, https = notes.text(key), notes.flag(f"{_ANNOTATION}s3-usehttps")
    if endpoint is None or "://" in endpoint:
        return notes.url(key)
    return Values({key: f"{'http' if https is False else 'https'}://{endpoint}"}).url(key)


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


def _require_principal(access: AzureAccess) -> None:
    """A service principal is three values; the agent's own identity is never lent to a client that a Secret names."""
    if access.client_secret is None or access.anonymous:
        return
    for name, value in (("tenant", access.tenant_id), ("client", access.client_id)):
        if value is None:
            raise invalid(f"a service principal's {name} id is missing or empty")
