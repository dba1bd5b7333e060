"""Looks whether somebody has mended the Secrets that failed copies name."""

import asyncio
import random
from collections.abc import Callable

import structlog

from agent.copying.access import CredentialsReader
from agent.errors import FetchError
from agent.node.memory import Memory
from agent.planning.retry import Failure

log = structlog.get_logger(__name__)


async def recheck_credentials(
    memory: Memory, reader: CredentialsReader, poke: Callable[[], None], *, seconds: float
) -> None:
    """For ever, every so many seconds: copies whose Secrets changed since they failed are tried at once."""
    while True:
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 — spread, not secrecy
        for failure in memory.all_failures():
            if await _changed(failure, reader):
                log.info("credentials changed", reason=failure.reason.value)
                memory.secrets_changed(failure)
                poke()


async def _changed(failure: Failure, reader: CredentialsReader) -> bool:
    """Unknown counts as unchanged: the copy is tried again in its time anyway."""
    for access, seen in failure.secrets:
        try:
            if await reader.versions(access) != seen:
                return True
        except FetchError as error:
            log.info("credentials could not be looked at", error=error.message)
    return False
