"""Who is reached without a proxy, as the list in NO_PROXY says. Pure."""

from ipaddress import ip_address, ip_network


def bypasses(no_proxy: str, host: str, port: int | None) -> bool:
    """Whether the list names the host: a name or a domain, an address, a network such as 10.0.0.0/8, with a port or without."""
    entries = no_proxy.lower().replace(",", " ").split()
    return any(_is_named(entry, host.lower(), port) for entry in entries)


def _is_named(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    name, only = _split(entry)
    if only and only != str(port):
        return False
    try:
        return ip_address(host) in ip_network(name, strict=False)
    except ValueError:
        # One of them is a name.
        domain = name.removeprefix("*").lstrip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _split(entry: str) -> tuple[str, str]:
    """Host and port; an IPv6 address with a port is in brackets."""
    name, colon, port = entry.rpartition(":")
    if entry.startswith("["):
        inner, _, rest = entry[1:].partition("]")
        return inner, rest.removeprefix(":")
    return (name, port) if colon and ":" not in name else (entry, "")
