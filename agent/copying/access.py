"""Where a copy's credentials come from, whoever reads them."""

from dataclasses import dataclass, field
from typing import Protocol

from agent.errors import FetchError, Stalled
from agent.planning.desired import Access
from agent.planning.retry import SecretVersions
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class Reading:
    """What an access gave: credentials or the reason why not, and the versions of all objects that were read."""

    versions: SecretVersions
    credentials: Credentials | None = None
    error: FetchError | None = None

    def require(self) -> Credentials:
        """The credentials, or raise what hindered them."""
        if self.credentials is None:
            raise self.error or Stalled(Reason.CREDENTIALS_MISSING, "no credentials were found")
        return self.credentials


class CredentialsReader(Protocol):
    """Where a copy's credentials come from: Kubernetes, or what a person gave on the command line."""

    async def read(self, access: Access) -> Reading: ...

    async def versions(self, access: Access) -> SecretVersions: ...


@dataclass(frozen=True, slots=True)
class GivenCredentials:
    """The same credentials for every access; nothing is read."""

    credentials: Credentials = field(default_factory=Credentials)

    async def read(self, access: Access) -> Reading:
        return Reading((), self.credentials)

    async def versions(self, access: Access) -> SecretVersions:
        return ()
