"""What sources may be used, as the admin says: folders, addresses, and who may be sent credentials. No I/O."""

import functools
import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from agent.errors import Retryable, Stalled
from shared.domain.no_proxy import bypasses
from shared.domain.reasons import Reason

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Instance metadata that is not link-local: Alibaba, Azure's wire server, AWS over IPv6, Oracle.
_METADATA = frozenset(
    ip_address(text)
    for text in ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "192.0.0.192")
)
_NAT64 = IPv6Network("64:ff9b::/96")
# Of a URL, what thousands of files have in common.
_ORIGIN = re.compile(r"[A-Za-z]+://[^/?#\s]+(?=[/?#])")


class Endpoint(NamedTuple):
    """Where a URL leads; `port` is never None for http and https."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> "Endpoint":
        """Raises ValueError for a URL without a host or with an impossible port."""
        origin = _ORIGIN.match(url)
        return _endpoint(origin[0] if origin else url)


@functools.lru_cache(maxsize=256)
def _endpoint(url: str) -> Endpoint:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("URL without a host")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return Endpoint(parts.scheme, parts.hostname, port)


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """Defaults are those of a cluster. `SourcePolicy.unrestricted()` is for a person's own command line.

    allowed_file_roots: folders that file:// may name; None = any.
    refuse_private_networks: refuse this machine's own addresses: loopback, link-local, metadata services. Networks such
        as 10.0.0.0/8 stay usable: that is where a cluster's own object stores live.
    allowed_networks: exempt from that.
    credential_endpoints: `host` or `host:port` that stored credentials may go to although a user's
        `storage.parameters` named it; None = any.
    hf_endpoint: Hub that `hf://` means; None = HF_ENDPOINT, else huggingface.co.
    generic_schemes: those that whatever fsspec has for them may serve; None = any. Such a library connects by itself, so
        that redirects and what a name resolves to later are not checked.
    """

    allowed_file_roots: tuple[Path, ...] | None = ()
    refuse_private_networks: bool = True
    allowed_networks: tuple[Network, ...] = ()
    credential_endpoints: frozenset[str] | None = frozenset()
    hf_endpoint: str | None = None
    generic_schemes: frozenset[str] | None = frozenset()

    @classmethod
    def unrestricted(cls, *, hf_endpoint: str | None = None) -> "SourcePolicy":
        return cls(
            allowed_file_roots=None,
            refuse_private_networks=False,
            credential_endpoints=None,
            hf_endpoint=hf_endpoint,
            generic_schemes=None,
        )

    def check_address(self, host: str, ip: str) -> None:
        """Raise `Stalled(SourceNotAllowed)` when `host`, which resolved to `ip`, may not be connected to.

        To be called for every address before a connection is made, after each redirect as well.
        """
        if not self.refuse_private_networks:
            return
        # A scope such as fe80::1%eth0 says on which interface, not where.
        for address in _meanings(ip_address(ip.partition("%")[0])):
            if any(
                address.version == network.version and address in network
                for network in self.allowed_networks
            ):
                continue
            kind = _refused(address)
            if kind is not None:
                shown = host if host == ip else f"{host} ({ip})"
                raise Stalled(
                    Reason.SOURCE_NOT_ALLOWED,
                    f"{shown} is a {kind} address; an admin can list its network in allowed_networks",
                )

    def check_literal(self, host: str) -> None:
        """`check_address` for a host that is an address itself; a name passes: it is checked once it is resolved."""
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            return
        self.check_address(host, host)

    def may_receive_credentials(self, url: str) -> bool:
        """Whether stored credentials may go to an endpoint that a user named."""
        if self.credential_endpoints is None:
            return True
        try:
            endpoint = Endpoint.of(url)
        except ValueError:
            return False
        names = {endpoint.host, f"{endpoint.host}:{endpoint.port}"}
        return not names.isdisjoint(self.credential_endpoints)

    def proxy(self, url: str) -> str | None:
        """URL of the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY give for `url`.

        A proxy resolves names itself: only literal addresses can be checked then, and the proxy's own address is the
        admin's choice, so `check_address` does not apply to it. Raises `Retryable` for one that is not usable.
        """
        endpoint = Endpoint.of(url)
        proxies = getproxies_environment()
        found = proxies.get(endpoint.scheme) or proxies.get("all")
        if not found or bypasses(proxies.get("no", ""), endpoint.host, endpoint.port):
            return None
        return _proxy_url(found)

    def is_proxy(self, host: str) -> bool:
        """Whether `host` is one of the proxies that the environment names."""
        return any(
            Endpoint.of(_proxy_url(url)).host == host
            for scheme, url in getproxies_environment().items()
            if scheme in {"http", "https", "all"} and url
        )

    def allows_file(self, path: Path) -> bool:
        """Whether file:// may read `path`, which must be absolute with all symlinks resolved."""
        if self.allowed_file_roots is None:
            return True
        return any(path.is_relative_to(os.path.realpath(root)) for root in self.allowed_file_roots)


def _proxy_url(text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    try:
        usable = Endpoint.of(url).scheme in {"http", "https"}
    except ValueError:
        usable = False
    if not usable:
        # Not the text itself: it may hold a password.
        raise Retryable(
            Reason.SOURCE_UNREACHABLE,
            "the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names is no usable http:// or https:// URL",
        )
    return url


def _meanings(address: Address) -> tuple[Address, ...]:
    """The address, and the IPv4 one that it carries where packets end up there."""
    if isinstance(address, IPv4Address):
        return (address,)
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    return (address,) if inner is None else (address, inner)


def _refused(address: Address) -> str | None:
    if address in _METADATA:
        return "metadata service"
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_unspecified:
        return "unspecified"
    if address.is_multicast:
        return "multicast"
    return None
