"""Which backend serves a URI. Backends, and the large libraries below them, are imported when first needed."""

from dataclasses import replace
from typing import TypeVar

from agent.errors import Stalled
from agent.policy import SourcePolicy
from agent.sources.base import Source
from agent.sources.credentials import Credentials, GcsAccess, HfAccess, S3Access
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

SCHEMES = ("s3", "gs", "hf", "https", "http", "file")

_A = TypeVar("_A", S3Access, GcsAccess, HfAccess)


def open_source(uri: SourceUri, credentials: Credentials, policy: SourcePolicy) -> Source:
    """A source that has not asked anybody yet. Raises `Stalled` where URI, credentials and policy do not go together."""
    if uri.scheme not in SCHEMES:
        raise Stalled(
            Reason.UNSUPPORTED_SCHEME,
            f"no source serves {uri.scheme}://; served are {', '.join(SCHEMES)}",
        )
    if credentials.kind is not None and credentials.kind not in {uri.scheme, "file"}:
        _check_kind(uri.scheme, credentials.kind)
    match uri.scheme:
        case "s3":
            from agent.sources.s3 import S3Source

            return S3Source(uri, _usable(credentials, credentials.s3, policy, "s3"), policy)
        case "gs":
            from agent.sources.gs import GcsSource

            return GcsSource(uri, _usable(credentials, credentials.gcs, policy, "gs"), policy)
        case "hf":
            from agent.sources.hf import HfSource

            return HfSource(uri, _usable(credentials, credentials.hf, policy, "hf"), policy)
        case "file":
            from agent.sources.file import FileSource

            return FileSource(uri, policy)
        case _:
            from agent.sources.http import HttpSource

            return HttpSource(uri, policy)


def _check_kind(scheme: str, kind: str) -> None:
    if {scheme, kind} <= {"http", "https"}:
        return
    raise Stalled(
        Reason.CREDENTIALS_INVALID,
        f"the storage entry is of type {kind}, which does not serve {scheme}://",
    )


def _usable(credentials: Credentials, access: _A, policy: SourcePolicy, scheme: str) -> _A:
    """The access as it may be used: named credentials must be there, and a user's endpoint gets nobody's secrets."""
    if credentials.named and not access.secret and not access.anonymous and not access.endpoint_url:
        raise Stalled(
            Reason.CREDENTIALS_MISSING,
            f"the named credentials hold nothing for {scheme}://",
        )
    endpoint = access.endpoint_url
    if endpoint is None or not access.endpoint_overridden:
        return access
    if policy.may_receive_credentials(endpoint):
        return access
    if access.secret:
        raise Stalled(
            Reason.SOURCE_NOT_ALLOWED,
            "storage.parameters.endpoint_url: stored credentials do not go to an endpoint that a user named; "
            "an admin can list it in credential_endpoints",
        )
    return replace(access, anonymous=True)
