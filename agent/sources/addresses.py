"""Name resolution that honours the address policy, for everything that lists."""

import socket

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

from agent.policy import SourcePolicy


class GuardedResolver(AbstractResolver):
    """Refuses a host as soon as one of its addresses is refused. Literal addresses never get here: check them before."""

    def __init__(self, policy: SourcePolicy) -> None:
        self._policy = policy
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not self._policy.is_proxy(host):
            for one in found:
                self._policy.check_address(host, one["host"])
        return found

    async def close(self) -> None:
        await self._inner.close()


def check_host(policy: SourcePolicy, host: str, port: int | None) -> None:
    """The same for libraries that connect by themselves; blocks. Raises OSError for a host without an address."""
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        policy.check_address(host, str(address[0]))
