"""What every source does: resolve a URI into a manifest, and sign requests for its files."""

from typing import Protocol

from agent.manifest import Manifest
from agent.origin import Origin


class Source(Origin, Protocol):
    """One URI at its source, with the credentials that its copy may use."""

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        """List the files. `revision`: what another node resolved; the same is returned where the source can pin.

        Raises `FetchError`; every foreign exception is translated, without tokens or query strings.
        """
        ...

    async def close(self) -> None:
        """Release connections; idempotent."""
        ...
