"""What an Azure URI names: account, container, blob. Pure but for the environment's own account."""

import os
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from agent.errors import Stalled
from agent.policy import SourcePolicy
from agent.sources.access import AzureAccess
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

_CONTAINER = re.compile(r"\$root|\$web|[a-z0-9](?:-?[a-z0-9]){1,62}")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
# Hosts of Azure itself: only the account that is their first part can read what is sent there.
_AZURE = re.compile(
    r"[a-z0-9-]+\.(?:blob\.core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)"
    r"|z[0-9]{1,2}\.blob\.storage\.azure\.net)"
)


@dataclass(frozen=True, slots=True)
class Location:
    """endpoint: URL of the account. name: blob or prefix, "" = the whole container. sas: what the URI itself brings.

    trusted: the host is Azure's, or whoever wrote the credentials named it.
    """

    endpoint: str
    account: str
    container: str
    name: str
    trusted: bool
    sas: str = field(default="", repr=False)

    @property
    def container_url(self) -> str:
        return f"{self.endpoint}/{self.container}"

    @property
    def shown(self) -> str:
        return f"az://{self.account}/{self.container}/{self.name}".rstrip("/")


def locate(uri: SourceUri, access: AzureAccess, policy: SourcePolicy) -> Location:
    """Raises Stalled where the URI is malformed, or its host is nobody whom stored credentials may go to.

    `https://account.blob.core.windows.net/container/name`, `az://container@host/name`, `az://host/container/name`, and
    `az://container/name` of the account that the credentials name, without one `az://account/container/name`.
    """
    sas = ""
    if uri.scheme in {"http", "https"}:
        parts = urlsplit(uri.text)
        host, path, sas = parts.netloc, unquote(parts.path), parts.query
    else:
        first, path = uri.authority, uri.path
        container, at, host = first.rpartition("@")
        if at:
            path = f"{container}/{path.lstrip('/')}"
        elif not _is_host(first):
            known = _known_account(access)
            host = known or _host_of(first)
            path = f"{first}/{path.lstrip('/')}" if known else path
    endpoint = access.endpoint_url or (host if "://" in host else f"https://{_blob(host)}")
    container, _, name = path.strip("/").partition("/")
    if not _CONTAINER.fullmatch(container):
        raise Stalled(Reason.INVALID_SOURCE, f"{uri.scheme}://: no container's name in the URI")
    own = urlsplit(endpoint)
    trusted = (
        not access.endpoint_overridden
        if access.endpoint_url is not None
        else bool(_AZURE.fullmatch(own.hostname or ""))
    )
    if access.secret and not trusted:
        _require_allowed(endpoint, policy)
    account = access.account or (own.hostname or "").partition(".")[0]
    return Location(endpoint.rstrip("/"), account, container, name.strip("/"), trusted, sas)


def _known_account(access: AzureAccess) -> str | None:
    """The place of the account that is set: an endpoint, or the host of an account's name."""
    account = access.account or os.environ.get("AZURE_STORAGE_ACCOUNT")
    return access.endpoint_url or (_host_of(account) if account else None)


def _host_of(account: str) -> str:
    if not _ACCOUNT.fullmatch(account):
        raise Stalled(
            Reason.INVALID_SOURCE, "an Azure account has 3 to 24 small letters and digits"
        )
    return f"{account}.blob.core.windows.net"


def _is_host(text: str) -> bool:
    return "." in text or ":" in text


def _blob(host: str) -> str:
    """abfs:// names the data lake's host of the same account."""
    return host.replace(".dfs.", ".blob.", 1)


def _require_allowed(endpoint: str, policy: SourcePolicy) -> None:
    if not policy.may_receive_credentials(endpoint):
        raise Stalled(
            Reason.SOURCE_NOT_ALLOWED,
            f"stored credentials do not go to {urlsplit(endpoint).hostname}, which is not Azure's; "
            "an admin can list it in credential_endpoints",
        )
