"""Name, connection, certificate and clock of a source, and whether it gives the model to these credentials."""

import asyncio
import socket
from typing import Final

from agent.cli.doctor.clock import compared
from agent.cli.doctor.finding import Finding, Tell, fail, failed, ok
from agent.cli.doctor.place import endpoint_of
from agent.cli.outcome import files
from agent.cli.resolve import ask_source
from agent.errors import FetchError, Retryable, Stalled
from agent.manifest import Manifest
from agent.planning.selection import parse_uri
from agent.policy import Endpoint, SourcePolicy
from agent.sources.access import Access, tls
from agent.sources.credentials import Credentials
from agent.sources.registry import kind_of
from agent.sources.web import Web
from agent.tls import Tls
from shared.domain.quantity import human_bytes
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

_DNS_SECONDS: Final = 10.0
# A listing of a hundred thousand objects takes about a minute.
_RESOLVE_SECONDS: Final = 120.0


async def look(
    text: str, credentials: Credentials, policy: SourcePolicy, usable: int | None, tell: Tell
) -> None:
    """One finding per step; the first that fails ends it, because what follows would fail for the same cause.

    usable: bytes that the model may take on the disk.
    """
    try:
        uri = parse_uri(text)
        url = endpoint_of(uri, credentials, policy)
        if url is not None and not await _reach(url, uri, credentials, policy, tell):
            return
        manifest = await _resolve(text, credentials, policy)
    except FetchError as error:
        tell(failed("source", error))
        return
    except ValueError:
        nobody = Stalled(Reason.INVALID_SOURCE, "the URI, or an endpoint, names no usable host")
        tell(failed("source", nobody))
        return
    size = "unknown size" if manifest.size is None else human_bytes(manifest.size)
    tell(ok("source", f"gives {files(len(manifest.files))}, {size}, revision {manifest.revision or 'unknown'}"))  # fmt: skip
    if usable is not None and manifest.size is not None:
        tell(_fits(manifest.size, usable))


async def _reach(
    url: str, uri: SourceUri, credentials: Credentials, policy: SourcePolicy, tell: Tell
) -> bool:
    """Whether the server answers at all."""
    proxy = policy.proxy(url)
    name = await _name(Endpoint.of(proxy or url), "the proxy " if proxy else "")
    tell(name)
    if name.advice:
        return False
    host = Endpoint.of(url).host
    async with Web(policy, _tls(uri, credentials)) as web:
        try:
            clock = await compared(web, url, host)
        except FetchError as error:
            tell(failed("connection", error))
            return False
    how = "the certificate is trusted" if url.startswith("https:") else "without TLS"
    tell(ok("connection", f"{url} answers, {how}" + (f", through {Endpoint.of(proxy).host}" if proxy else "")))  # fmt: skip
    tell(clock)
    return True


async def _name(endpoint: Endpoint, what: str) -> Finding:
    try:
        async with asyncio.timeout(_DNS_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(
                endpoint.host, endpoint.port, type=socket.SOCK_STREAM
            )
    except TimeoutError:
        why = f"no answer within {_DNS_SECONDS:.0f} s"
    except (OSError, UnicodeError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    else:
        addresses = sorted({str(address[0]) for *_, address in found})
        return ok("DNS", f"{what}{endpoint.host} is {', '.join(addresses[:3])}")
    return fail(
        "DNS",
        f"{what}{endpoint.host} has no address: {why}",
        "Check the name, /etc/resolv.conf, and whether network policies let this node ask its DNS server.",
    )


async def _resolve(text: str, credentials: Credentials, policy: SourcePolicy) -> Manifest:
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            return await ask_source(text, None, credentials, policy)
    except TimeoutError:
        raise Retryable(
            Reason.SOURCE_UNREACHABLE,
            f"the source did not list its files within {_RESOLVE_SECONDS:.0f} s",
        ) from None


def _tls(uri: SourceUri, credentials: Credentials) -> Tls:
    access: dict[str, Access] = {
        "s3": credentials.s3,
        "gs": credentials.gcs,
        "hf": credentials.hf,
        "modelscope": credentials.modelscope,
        "az": credentials.azure,
        "oci": credentials.registry,
        "webhdfs": credentials.hdfs,
        "git": credentials.git,
    }
    return tls(access.get(kind_of(uri) or "", Access()))


def _fits(size: int, usable: int) -> Finding:
    if size <= usable:
        return ok("room", f"the model takes {human_bytes(size)} of {human_bytes(usable)}")
    return fail(
        "room",
        f"the model takes {human_bytes(size)}, {human_bytes(usable)} can be used",
        "Delete models that nobody uses, use a larger disk, or choose files by patterns.",
    )
