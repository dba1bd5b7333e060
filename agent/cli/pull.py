"""`pull`: one model into a folder, by the same engine and store that serve a node."""

import asyncio
import os
import random
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agent.blocking import Blocking
from agent.cli.outcome import Exit, code_for, files, put, say
from agent.cli.progress import shown
from agent.copying.access import GivenCredentials
from agent.copying.assembly import Limits, assemble, now
from agent.copying.copy import Copier, Have
from agent.copying.progress import CopyWatch
from agent.copying.tracing import trace_copy
from agent.errors import FetchError, Retryable
from agent.planning.desired import Wanted, group, read_work_list
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from agent.storage.store import Store
from agent.storage.tree import Tree
from agent.transfer.budget import Budget
from shared.api.node import LocalModelInfo
from shared.domain.backoff import delay
from shared.domain.quantity import human_bytes
from shared.ops.tracing import open_traces

_RETRY_BASE, _RETRY_CAP = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class PullOptions:
    """max_rate: bytes per second, 0 = unlimited. retries: after failures that may pass by themselves."""

    uri: str
    root: Path
    revision: str | None = None
    allow: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    credentials: Credentials = Credentials()  # noqa: RUF009 — frozen
    connections: int = 256
    max_rate: int = 0
    retries: int = 5
    quiet: bool = False


def wanted_from(options: PullOptions) -> Wanted:
    """The work list that a controller would have written for it."""
    info = LocalModelInfo(
        source_model_uri=options.uri,
        model_name="pull",
        allow_patterns=options.allow or None,
        ignore_patterns=options.ignore or None,
        revision=options.revision,
    )
    (wanted,) = group(read_work_list([info])).values()
    return wanted


def run_pull(options: PullOptions) -> Exit:
    """Prints the published folder; everything else goes to standard error."""
    wanted, watch = wanted_from(options), CopyWatch(started=now())
    traces = open_traces("localmodel-agent", {})
    told = partial(trace_copy, traces, wanted, watch)
    try:
        tree = asyncio.run(_pull(options, wanted, watch))
    except FetchError as error:
        told(reason=error.reason)
        say(f"Error: {error.message} ({error.reason.value})")
        return code_for(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        told()
        say(
            f"Interrupted. {human_bytes(watch.done)} are kept in {options.root}; the same command goes on from there."
        )
        return Exit.INTERRUPTED
    else:
        told(tree=tree)
    finally:
        traces.close()
    say(
        f"{files(len(tree.files))}, {human_bytes(tree.size)} ({human_bytes(watch.moved)} transferred), "
        f"verified by {tree.verified_by.value}, revision {tree.revision or 'unknown'}"
    )
    put(str(options.root / "models" / wanted.storage_key))
    return Exit.OK


async def _pull(options: PullOptions, wanted: Wanted, watch: CopyWatch) -> Tree:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    blocking = Blocking()
    store = await blocking(Store.open, options.root)
    try:
        parts = assemble(
            store,
            root=options.root,
            limits=Limits(
                Budget(connections=options.connections, bytes_per_second=options.max_rate or None)
            ),
            reader=GivenCredentials(options.credentials),
            policy=SourcePolicy.unrestricted(hf_endpoint=os.environ.get("HF_ENDPOINT")),
            blocking=blocking,
        )
        try:
            with shown(watch, quiet=options.quiet):
                return await _until_it_works(parts.copier, store, blocking, options, wanted, watch)
        finally:
            await parts.engine.close()
    finally:
        await blocking(store.close)
        blocking.close()


async def _until_it_works(
    copier: Copier,
    store: Store,
    blocking: Blocking,
    options: PullOptions,
    wanted: Wanted,
    watch: CopyWatch,
) -> Tree:
    key = wanted.storage_key
    attempt = 0
    while True:
        try:
            have = Have(
                tree=store.trees().get(key),
                whole=not await blocking(store.inspect, key),
                foreign=key in await blocking(store.foreign),
            )
            return (await copier.copy(wanted, watch, have)).tree
        except Retryable as error:
            attempt += 1
            if attempt > options.retries:
                raise
            pause = delay(attempt, base=_RETRY_BASE, cap=_RETRY_CAP, jitter=random.random())  # noqa: S311 — spread, not secrecy
            pause = max(pause, min(error.after or 0, _RETRY_CAP))
            say(
                f"{error.message} ({error.reason.value}); attempt {attempt} of {options.retries + 1}, "
                f"again in {pause:.0f} s"
            )
            await asyncio.sleep(pause)
