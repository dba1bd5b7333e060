"""What the settings mean to the parts. Budget and log level follow the file while the agent runs; the rest counts from the next start."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from agent.copying.assembly import Limits
from agent.node.settings import AgentSettings
from agent.policy import SourcePolicy
from agent.transfer.budget import Budget
from shared.ops.following import LOOK_SECONDS, follow

# Files that the engine keeps open at once; far below the 1,024 that every process may.
_OPEN_FILES: Final = 256

log = structlog.get_logger(__name__)


def budget_of(settings: AgentSettings) -> Budget:
    """What all copies together may use."""
    return Budget(
        connections=settings.connections,
        bytes_in_flight=settings.memory_mib << 20,
        open_files=_OPEN_FILES,
        bytes_per_second=settings.max_bytes_per_second or None,
    )


async def follow_settings(
    file: Path,
    level: str,
    budget: Budget,
    use: Callable[[Budget], None],
    *,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """For ever: do what the file says whenever that changes. A file that cannot be read changes nothing.

    level, budget: in use now. use: takes another budget.
    """

    def look(settings: AgentSettings) -> None:
        nonlocal budget
        if budget_of(settings) != budget:
            budget = budget_of(settings)
            use(budget)
            log.info("budget changed", connections=budget.connections, rate=budget.bytes_per_second)

    await follow(AgentSettings, file, level, look, look_seconds=look_seconds)


def limits_of(settings: AgentSettings, budget: Budget) -> Limits:
    """What copies may use."""
    return Limits(
        budget=budget,
        part_size=settings.part_size_mib << 20,
        min_free_percent=settings.min_free_percent,
        archive_ratio=settings.archive_ratio,
        writing=settings.writing,
    )


def policy_of(settings: AgentSettings) -> SourcePolicy:
    """Where sources may lead."""
    return SourcePolicy(
        allowed_file_roots=settings.allowed_file_roots,
        allowed_networks=settings.allowed_networks,
        credential_endpoints=frozenset(settings.credential_endpoints),
        hf_endpoint=settings.hf_endpoint,
        generic_schemes=frozenset(settings.generic_schemes),
    )
