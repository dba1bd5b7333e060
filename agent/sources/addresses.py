"""Name resolution that honours the address policy, for everything that lists."""

import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from agent.daemons import aside
from agent.policy import SourcePolicy


class GuardedResolver(AbstractResolver):
    """Refuses a host as soon as one of its addresses is refused. Literal addresses never get here: check them before."""

    def __init__(self, policy: SourcePolicy) -> None:
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await aside(
            lambda _: socket.getaddrinfo(
                host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
        )
        results = [
            ResolveResult(
                hostname=host,
                host=_shown(address),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
        ]
        if not self._policy.is_proxy(host):
            for one in results:
                self._policy.check_address(host, one["host"])
        return results

    async def close(self) -> None:
        """Nothing is open."""


def _shown(address: tuple[Any, ...]) -> str:
    """With the interface of a link-local one."""
    scope = address[3] if len(address) > 3 else 0
    return f"{address[0]}%{scope}" if scope else str(address[0])


def check_host(policy: SourcePolicy, host: str, port: int | None) -> list[str]:
    """The same for libraries that connect by themselves: the addresses; blocks. Raises OSError for a host without one."""
    found = [
        _shown(address) for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    ]
    for one in found:
        policy.check_address(host, one)
    return found
