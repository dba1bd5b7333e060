"""Which backend serves a URI. Backends, and the large libraries below them, are imported when first needed."""

import re
from dataclasses import replace

from agent.errors import Stalled
from agent.policy import SourcePolicy
from agent.sources.access import A
from agent.sources.base import Source
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

# Scheme → kind of source; credentials name kinds.
_KINDS = {
    "s3": "s3",
    "gs": "gs",
    "hf": "hf",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
    "oci": "oci",
    "modelscope": "modelscope",
    "webhdfs": "webhdfs",
    "swebhdfs": "webhdfs",
    "hdfs": "webhdfs",
    "git+https": "git",
    "git+http": "git",
    "https": "http",
    "http": "http",
    "file": "file",
}
SCHEMES = tuple(_KINDS)
# What KServe takes for Azure's and for git's though it begins with https://.
_AZURE_HOST = re.compile(r"[a-z0-9]+\.(blob\.core\.[a-z.]+|z[0-9]{1,2}\.blob\.storage\.azure\.net)")
_GIT_PATH = re.compile(r"\.git/?(@[^/]+)?$")


def open_source(uri: SourceUri, credentials: Credentials, policy: SourcePolicy) -> Source:
    """A source that has not asked anybody yet. Raises `Stalled` where URI, credentials and policy do not go together."""
    kind = kind_of(uri)
    if kind is None:
        return _generic(uri, credentials, policy)
    if credentials.kind not in {None, kind, "file"}:
        raise Stalled(
            Reason.CREDENTIALS_INVALID,
            f"the storage entry is of type {credentials.kind}, which does not serve {uri.scheme}://",
        )

    def usable(access: A) -> A:
        return _usable(credentials, access, policy, uri.scheme)

    match kind:
        case "s3":
            from agent.sources.s3 import S3Source

            return S3Source(uri, usable(credentials.s3), policy)
        case "gs":
            from agent.sources.gs import GcsSource

            return GcsSource(uri, usable(credentials.gcs), policy)
        case "hf":
            from agent.sources.hf import HfSource

            return HfSource(uri, usable(credentials.hf), policy)
        case "az":
            from agent.sources.azure import AzureSource

            return AzureSource(uri, usable(credentials.azure), policy)
        case "oci":
            from agent.sources.oci import OciSource

            return OciSource(uri, usable(credentials.registry), policy)
        case "modelscope":
            from agent.sources.modelscope import ModelScopeSource

            return ModelScopeSource(uri, usable(credentials.modelscope), policy)
        case "webhdfs":
            from agent.sources.webhdfs import WebHdfsSource

            return WebHdfsSource(uri, usable(credentials.hdfs), policy)
        case "git":
            from agent.sources.git import GitSource

            return GitSource(uri, usable(credentials.git), policy)
        case "file":
            from agent.sources.file import FileSource

            return FileSource(uri, policy)
        case _:
            from agent.sources.http import HttpSource

            return HttpSource(uri, credentials.http, policy)


def _generic(uri: SourceUri, credentials: Credentials, policy: SourcePolicy) -> Source:
    from agent.sources.generic import GenericSource, serves

    if not serves(uri.scheme, policy):
        raise Stalled(
            Reason.UNSUPPORTED_SCHEME,
            f"no source serves {uri.scheme}://; served are {', '.join(SCHEMES)}, "
            "and those of fsspec that an admin lists in generic_schemes",
        )
    if credentials.kind not in {None, uri.scheme}:
        raise Stalled(
            Reason.CREDENTIALS_INVALID,
            f"the storage entry is of type {credentials.kind}, which does not serve {uri.scheme}://",
        )
    return GenericSource(uri, credentials.generic, policy)


def kind_of(uri: SourceUri) -> str | None:
    """The kind of source that a URI names, as a `storage-config` entry's type names it; None = nobody serves it."""
    kind = _KINDS.get(uri.scheme)
    if kind != "http":
        return kind
    if _AZURE_HOST.fullmatch(uri.authority.lower()):
        return "az"
    return "git" if uri.scheme == "https" and _GIT_PATH.search(uri.path) else kind


def _usable(credentials: Credentials, access: A, policy: SourcePolicy, scheme: str) -> A:
    """The access as it may be used: named credentials must be there, and a user's endpoint gets nobody's secrets."""
    if credentials.named and not access.secret and not access.anonymous and not access.endpoint_url:
        raise Stalled(
            Reason.CREDENTIALS_MISSING,
            f"the named credentials hold nothing for {scheme}://",
        )
    if not access.endpoint_overridden:
        return access
    if all(policy.may_receive_credentials(endpoint) for endpoint in access.endpoints):
        return access
    if access.secret:
        raise Stalled(
            Reason.SOURCE_NOT_ALLOWED,
            "storage.parameters.endpoint_url: stored credentials do not go to an endpoint that a user named; "
            "an admin can list it in credential_endpoints",
        )
    return replace(access, anonymous=True)
