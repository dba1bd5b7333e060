"""Asking a source what a model consists of, once for each access that wants it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from agent.copying.access import CredentialsReader, Reading
from agent.copying.progress import CopyWatch
from agent.errors import FetchError, Retryable, Stalled
from agent.manifest import Manifest, RemoteFile
from agent.origin import LocalPath, Readable, SignedRequest
from agent.planning.desired import Access, Wanted
from agent.planning.selection import parse_uri
from agent.policy import SourcePolicy
from agent.sources.base import Source
from agent.sources.credentials import Credentials
from agent.sources.registry import open_source
from shared.domain.reasons import Reason

# Listing a model of a hundred thousand objects takes about a minute.
_RESOLVE_SECONDS = 600.0
# Of many connections that are refused, one has the Secrets read again; longer than signing may take.
_RENEW_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the source said to each access."""

    granted: frozenset[Access] = frozenset()
    refusals: Mapping[Access, FetchError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    first: tuple[Source, Manifest] | None
    judgement: Judgement

    def require(self) -> tuple[Source, Manifest]:
        """Raises what hindered all accesses; one that may pass by itself first: it decides how soon we try again."""
        if self.first is None:
            refusals = self.judgement.refusals.values()
            raise min(refusals, key=lambda error: isinstance(error, Stalled))
        return self.first


class Asking:
    """policy: where the copy's source may lead."""

    def __init__(self, reader: CredentialsReader, policy: Callable[[Wanted], SourcePolicy]) -> None:
        self._reader = reader
        self._policy = policy

    async def ask(
        self, wanted: Wanted, watch: CopyWatch, revision: str | None, stack: AsyncExitStack
    ) -> Answer:
        """The first access that the source lets in fetches for all. The stack closes the sources.

        revision: to be asked for when the work list names none.
        """
        uri = parse_uri(wanted.uri)
        revision = wanted.revision or revision
        policy = self._policy(wanted)
        first: tuple[Source, Manifest] | None = None
        granted: set[Access] = set()
        refusals: dict[Access, FetchError] = {}
        for access in wanted.accesses:
            reading = await self._read(access, watch)
            try:
                source = _Renewing(
                    lambda given: open_source(uri, given, policy),
                    partial(self._read, access, watch),
                    reading.require(),
                )
                stack.push_async_callback(source.close)
                async with asyncio.timeout(_RESOLVE_SECONDS):
                    manifest = await source.resolve(revision=revision)
            except FetchError as error:
                refusals[access] = error
            except TimeoutError:
                refusals[access] = Retryable(
                    Reason.SOURCE_UNREACHABLE,
                    f"the source did not list its files within {_RESOLVE_SECONDS:.0f} s",
                )
            else:
                granted.add(access)
                first = first or (source, manifest)
        return Answer(first, Judgement(frozenset(granted), refusals))

    async def _read(self, access: Access, watch: CopyWatch) -> Reading:
        reading = await self._reader.read(access)
        watch.secrets[access] = reading.versions
        return reading


class _Renewing:
    """A source that is opened anew, with the Secrets of then, when what it signed is refused: nothing is cached over that.

    The one that listed the files stays open beside its successors: files may lie with it.
    """

    def __init__(
        self,
        open_with: Callable[[Credentials], Source],
        read: Callable[[], Awaitable[Reading]],
        credentials: Credentials,
    ) -> None:
        self._open = open_with
        self._read = read
        self._credentials = credentials
        self._sources = [open_with(credentials)]
        self._renewed_at: float | None = None
        self._lock = asyncio.Lock()

    async def resolve(self, *, revision: str | None = None) -> Manifest:
        return await self._sources[-1].resolve(revision=revision)

    async def sign(self, file: RemoteFile) -> SignedRequest | LocalPath | Readable:
        return await self._sources[-1].sign(file)

    async def renew(self) -> None:
        """At once, but not again for a while: what is refused even so needs a person. Raises FetchError."""
        async with self._lock:
            now = time.monotonic()
            if self._renewed_at is not None and now - self._renewed_at < _RENEW_SECONDS:
                return
            reading = await self._read()
            if not isinstance(reading.error, Retryable):
                self._credentials = reading.require()
            self._sources.append(self._open(self._credentials))
            self._renewed_at = now
            if len(self._sources) > 3:
                await self._sources.pop(1).close()

    async def close(self) -> None:
        for source in self._sources:
            await source.close()
