"""Puts store, engine and sources together; the same for a node's agent and for one person's folder."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.blocking import Blocking
from agent.copying.access import CredentialsReader
from agent.copying.asking import Asking
from agent.copying.copy import Copier
from agent.copying.shelf import EVERY_KEY, holders
from agent.copying.space import Ledger
from agent.planning.desired import Wanted
from agent.policy import SourcePolicy
from agent.storage.store import Store
from agent.transfer.budget import Budget
from agent.transfer.engine import Engine
from agent.transfer.pages import Writing


@dataclass(frozen=True, slots=True)
class Limits:
    """What copies may use. part_size: bytes."""

    budget: Budget = Budget()  # noqa: RUF009 — frozen
    part_size: int = 64 << 20
    min_free_percent: float = 0
    archive_ratio: float = 20
    writing: Writing = Writing.AUTO


@dataclass(frozen=True, slots=True)
class Parts:
    """Belongs to one open store. `close` ends the engine; the store is closed by whoever opened it."""

    engine: Engine
    ledger: Ledger
    copier: Copier


def now() -> datetime:
    return datetime.now(UTC)


def assemble(
    store: Store,
    *,
    root: Path,
    limits: Limits,
    reader: CredentialsReader,
    policy: SourcePolicy,
    blocking: Blocking,
) -> Parts:
    """Inside a running event loop."""
    engine = Engine(
        limits.budget, policy=policy, part_size=limits.part_size, writing=limits.writing
    )
    ledger = Ledger(
        usage=store.usage,
        reclaim=lambda: store.sweep(now=now(), grace=timedelta(0), wanted=EVERY_KEY),
        discard=store.discard_staging,
        holders=lambda: holders(root, store),
        min_free_percent=limits.min_free_percent,
        blocking=blocking,
    )
    copier = Copier(
        store=store,
        models=root / "models",
        engine=engine,
        asking=Asking(reader, policy_for(policy)),
        ledger=ledger,
        blocking=blocking,
        clock=now,
        archive_ratio=limits.archive_ratio,
    )
    return Parts(engine, ledger, copier)


def policy_for(policy: SourcePolicy) -> Callable[[Wanted], SourcePolicy]:
    """Folders of the node are never a source for a namespace cache, whatever the admin allows cluster caches."""

    def of(wanted: Wanted) -> SourcePolicy:
        if wanted.cluster_only or policy.allowed_file_roots is None:
            return policy
        return replace(policy, allowed_file_roots=())

    return of
