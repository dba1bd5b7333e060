"""How TLS connections to a source are checked."""

import ssl
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from agent.errors import Stalled
from shared.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class Tls:
    """Hashable, so that connections can be pooled by it.

    verify: whether the server's certificate is checked at all.
    ca_bundle: PEM text, or the path of a PEM file, trusted beside the system's authorities.
    """

    verify: bool = True
    ca_bundle: str | None = None

    def context(self) -> ssl.SSLContext:
        """One shared context per setting; raises `Stalled(CredentialsInvalid)` when the bundle cannot be used."""
        return _context(self)


SYSTEM_TLS = Tls()


def verified(tls: Tls) -> Tls:
    """The same for who is shown a secret: whoever takes any certificate for bytes has not said so of that."""
    return replace(tls, verify=True)


# A node uses a handful of endpoints; a context with the system's authorities takes about 0.5 MiB.
@lru_cache(maxsize=16)
def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if tls.ca_bundle is not None:
        _trust(context, tls.ca_bundle)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _trust(context: ssl.SSLContext, bundle: str) -> None:
    try:
        if _is_pem(bundle):
            context.load_verify_locations(cadata=bundle)
        else:
            context.load_verify_locations(cafile=str(Path(bundle)))
    except (OSError, ValueError) as exc:
        raise Stalled(
            Reason.CREDENTIALS_INVALID, "the CA bundle cannot be read as PEM certificates"
        ) from exc


def _is_pem(text: str) -> bool:
    return "-----BEGIN" in text
