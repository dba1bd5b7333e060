"""What one `storage-config` entry, or a user's `storage.parameters`, says to each kind of source. Pure."""

import json
from base64 import b64decode
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from agent.sources.access import (
    AzureAccess,
    GcsAccess,
    GenericAccess,
    GitAccess,
    HdfsAccess,
    HubAccess,
    RegistryAccess,
    S3Access,
)
from agent.sources.handwritten import Values, invalid, one_word

# Types of storage-config entries, as KServe and its users spell them, and the kinds of source that they serve.
_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "gcs": "gs",
        "https": "http",
        "azure": "az",
        "azblob": "az",
        "abfs": "az",
        "abfss": "az",
        "docker": "oci",
        "hdfs": "webhdfs",
        "swebhdfs": "webhdfs",
        "git+https": "git",
        "ms": "modelscope",
    }
)
# Others make google-auth read local files, run programs or post tokens where the JSON says.
_GCS_TYPES = frozenset({"service_account", "authorized_user"})
# What KServe hands to a Kerberos client or to TLS client authentication, neither of which is here.
_HDFS_UNSUPPORTED = ("KERBEROS_PRINCIPAL", "KERBEROS_KEYTAB", "TLS_CERT", "TLS_KEY")


def kind(values: Values) -> str | None:
    said = values.text("type")
    return None if said is None else _TYPES.get(said.lower(), said.lower())


def s3(values: Values) -> S3Access:
    style = values.text("addressing_style")
    if style not in {None, "auto", "path", "virtual"}:
        raise invalid(f"{values.named('addressing_style')} must be auto, path or virtual")
    return S3Access(
        access_key_id=values.text("access_key_id"),
        secret_access_key=values.text("secret_access_key"),
        session_token=values.text("session_token"),
        region=values.text("region"),
        path_style=None if style in {None, "auto"} else style == "path",
        **common(values),
    )


def gcs(values: Values) -> GcsAccess:
    account = None
    encoded, plain = values.text("base64_service_account"), values.text("service_account")
    if encoded is not None:
        name = values.named("base64_service_account")
        try:
            account = service_account(name, b64decode(encoded, validate=True).decode())
        except ValueError:
            raise invalid(f"{name} is not base64 of a service account's JSON") from None
    elif plain is not None:
        account = service_account(values.named("service_account"), plain)
    return GcsAccess(service_account=account, **common(values))


def hub(values: Values) -> HubAccess:
    return HubAccess(token=_word(values, "token"), **common(values))


def azure(values: Values) -> AzureAccess:
    return AzureAccess(
        account=values.text("account_name"),
        key=base64_key(values, "account_key"),
        sas=sas_token(values, "sas_token"),
        token=_word(values, "access_token"),
        tenant_id=_word(values, "tenant_id"),
        client_id=_word(values, "client_id"),
        client_secret=values.text("client_secret"),
        **common(values),
    )


def registry(values: Values) -> RegistryAccess:
    """`username` and `password` are for the registry that `registry` names; a Docker configuration names its own."""
    config = values.text("dockerconfigjson")
    if config is not None:
        return RegistryAccess(
            logins=docker_logins(values.named("dockerconfigjson"), config), **common(values)
        )
    user, password, host = (values.text(key) for key in ("username", "password", "registry"))
    if password is None or host is None:
        return RegistryAccess(**common(values))
    return RegistryAccess(logins={registry_host(host): (user or "", password)}, **common(values))


def hdfs(values: Values) -> HdfsAccess:
    """KServe's names, in an entry as in a Secret."""
    unsupported = [key for key in _HDFS_UNSUPPORTED if values.text(key) is not None]
    nodes = tuple(
        Values({"HDFS_NAMENODE": one}).url("HDFS_NAMENODE") or ""
        for one in (values.text("HDFS_NAMENODE") or "").split(";")
        if one.strip()
    )
    said = common(values)
    bundle, skip = values.text("TLS_CA"), values.flag("TLS_SKIP_VERIFY")
    if bundle is not None:
        said["ca_bundle"] = _pem(values, "TLS_CA", bundle)
    if skip is not None:
        said["verify_ssl"] = not skip
    said["endpoint_url"] = nodes[0] if nodes else said["endpoint_url"]
    return HdfsAccess(
        standby=nodes[1:] if nodes else None,
        unsupported=values.named(unsupported[0]) if unsupported else None,
        user=_word(values, "USER_PROXY"),
        root=values.text("HDFS_ROOTPATH"),
        delegation=_word(values, "HDFS_DELEGATION_TOKEN"),
        headers=_headers(values, "HEADERS"),
        **said,
    )


def git(values: Values) -> GitAccess:
    password = values.text("password") or values.text("token")
    return GitAccess(
        user=values.text("username"), password=password, host=values.text("host"), **common(values)
    )


def generic(entry: Mapping[str, Any]) -> GenericAccess:
    return GenericAccess(options={key: value for key, value in entry.items() if key != "type"})


def common(values: Values) -> dict[str, Any]:
    return {
        "endpoint_url": values.url("endpoint_url"),
        "anonymous": values.flag("anonymous"),
        "verify_ssl": values.flag("verify_ssl"),
        "ca_bundle": values.text("ca_bundle") or values.text("certificate"),
    }


def service_account(key: str, text: str) -> Mapping[str, Any]:
    found = _json(key, text)
    if found.get("type") not in _GCS_TYPES:
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


def docker_logins(key: str, text: str) -> Mapping[str, tuple[str, str]]:
    """The logins of a Docker configuration's `auths`, by registry."""
    auths = _json(key, text).get("auths")
    if not isinstance(auths, dict):
        raise invalid(f"{key} lacks auths")
    found: dict[str, tuple[str, str]] = {}
    for place, entry in auths.items():
        if not isinstance(entry, dict):
            raise invalid(f"{key}: the entry of a registry is not an object")
        login = _docker_login(key, entry)
        if login is not None:
            found[registry_host(place)] = login
    return found


def registry_host(place: str) -> str:
    """`https://index.docker.io/v1/` and the like → host and port."""
    host = place.strip().partition("://")[2] or place.strip()
    host = host.partition("/")[0].lower()
    return "docker.io" if host in {"index.docker.io", "registry-1.docker.io"} else host


def base64_key(values: Values, key: str) -> str | None:
    text = values.text(key)
    if text is not None:
        try:
            b64decode(text, validate=True)
        except ValueError:
            raise invalid(f"{values.named(key)} is not base64") from None
    return text


def sas_token(values: Values, key: str) -> str | None:
    text = one_word(values.named(key), values.text(key))
    if text is None:
        return None
    if "sig=" not in text or " " in text or "#" in text:
        raise invalid(f"{values.named(key)} is not a SAS token")
    return text.removeprefix("?")


def _docker_login(key: str, entry: Mapping[str, Any]) -> tuple[str, str] | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return "", token
    user, password, encoded = (entry.get(name) for name in ("username", "password", "auth"))
    if isinstance(user, str) and isinstance(password, str) and password:
        return user, password
    if not isinstance(encoded, str) or not encoded:
        return None
    try:
        user, colon, password = b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        raise invalid(f"{key}: an auth is not base64 of user:password") from None
    if not colon:
        raise invalid(f"{key}: an auth is not base64 of user:password")
    return user, password


def _headers(values: Values, key: str) -> Mapping[str, str] | None:
    text = values.text(key)
    if text is None:
        return None
    found = _json(values.named(key), text)
    for name, value in found.items():
        if not isinstance(value, str) or not value.isprintable() or not name.isascii():
            raise invalid(f"{values.named(key)} must be a JSON object of header names and values")
        one_word(values.named(key), name)
    return found


def _pem(values: Values, key: str, text: str) -> str:
    """A bundle as it is in a Secret, or as KServe wants it in an entry: base64 of a file."""
    if "-----BEGIN" in text:
        return text
    try:
        decoded = b64decode(text, validate=True).decode()
    except ValueError:
        decoded = ""
    if "-----BEGIN" not in decoded:
        raise invalid(f"{values.named(key)} is not a PEM certificate")
    return decoded


def _word(values: Values, key: str) -> str | None:
    return one_word(values.named(key), values.text(key))


def _json(key: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise invalid(f"{key} is not JSON") from None
    if not isinstance(found, dict):
        raise invalid(f"{key} is not a JSON object")
    return found
