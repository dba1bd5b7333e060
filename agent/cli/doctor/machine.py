"""What the machine, or the container, gives the program."""

import resource
from typing import Final

from agent.cli.doctor.finding import Finding, Tell, ok, warn
from agent.transfer.budget import Budget
from agent.transfer.pages import cache_memory
from shared.domain.quantity import human_bytes

# The interpreter with the libraries of one source.
_PROGRAM_BYTES: Final = 256 << 20
# Event loop, store, log, API server.
_OTHER_FILES: Final = 128


def look(budget: Budget, tell: Tell) -> None:
    """budget: what copies may use."""
    tell(_memory(budget))
    tell(_open_files(budget))


def _memory(budget: Budget) -> Finding:
    memory, need = cache_memory(), budget.bytes_in_flight + _PROGRAM_BYTES
    found = f"{human_bytes(memory)} for the program and the page cache"
    if memory < need:
        return warn(
            "memory",
            f"{found}; copies need about {human_bytes(need)}",
            "Raise the container's memory limit, or lower `memory_mib`.",
        )
    return ok("memory", found)


def _open_files(budget: Budget) -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = budget.open_files + budget.connections + _OTHER_FILES
    if limit != resource.RLIM_INFINITY and limit < need:
        return warn(
            "open files",
            f"at most {limit}; copies at full speed need about {need}",
            f"Raise it: `ulimit -n {need}`, or the container runtime's LimitNOFILE.",
        )
    return ok("open files", "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit}")
