"""Asking a source what a model consists of, once for each access that wants it."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from agent.access import CredentialsReader
from agent.errors import FetchError, Retryable, Stalled
from agent.manifest import Manifest
from agent.planning.desired import Access, Wanted
from agent.planning.selection import parse_uri
from agent.policy import SourcePolicy
from agent.progress import CopyWatch
from agent.sources.base import Source
from agent.sources.registry import open_source
from shared.domain.reasons import Reason

# Listing a model of a hundred thousand objects takes about a minute.
_RESOLVE_SECONDS = 600.0


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
        first: tuple[Source, Manifest] | None = None
        granted: set[Access] = set()
        refusals: dict[Access, FetchError] = {}
        for access in wanted.accesses:
            reading = await self._reader.read(access)
            watch.secrets[access] = reading.versions
            try:
                source = open_source(uri, reading.require(), self._policy(wanted))
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
