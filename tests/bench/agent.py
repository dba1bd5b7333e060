"""`python -m tests.bench.agent ROOT USED WARM URI…`: an agent that runs already fetches models, all at once.

The same parts as on a node, without Kubernetes. It fetches WARM first, so that libraries are loaded and the store is
open; USED gets what the others took, as JSON.
"""

import asyncio
import gc
import json
import os
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from agent.blocking import Blocking
from agent.cli import COLLECT
from agent.cli.pull import PullOptions, wanted_from
from agent.copying.access import GivenCredentials
from agent.copying.assembly import Limits, assemble
from agent.copying.copy import Have
from agent.copying.progress import CopyWatch
from agent.policy import SourcePolicy
from agent.storage.store import Store


async def fetch(root: Path, warm: str, uris: list[str]) -> dict[str, float]:
    """Seconds, and seconds of processor time, that `uris` took."""
    blocking = Blocking()
    store = await blocking(Store.open, root)
    parts = assemble(
        store,
        root=root,
        limits=Limits(),
        reader=GivenCredentials(),
        policy=SourcePolicy.unrestricted(hf_endpoint=os.environ.get("HF_ENDPOINT")),
        blocking=blocking,
    )

    async def copy(uri: str) -> None:
        wanted = wanted_from(PullOptions(uri=uri, root=root))
        tree = store.trees().get(wanted.storage_key)
        whole = tree is not None and not await blocking(store.inspect, wanted.storage_key)
        watch = CopyWatch(started=datetime.now(UTC))
        await parts.copier.copy(wanted, watch, Have(tree=tree, whole=whole))

    await copy(warm)
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    async with asyncio.TaskGroup() as group:
        for uri in uris:
            group.create_task(copy(uri), name=uri)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    system = after.ru_stime - before.ru_stime
    used = {"wall": wall, "cpu": after.ru_utime - before.ru_utime + system, "system": system}
    await parts.engine.close()
    await blocking(store.close)
    blocking.close()
    return used


def main(root: Path, used: Path, warm: str, *uris: str) -> None:
    gc.set_threshold(*COLLECT)
    used.write_text(json.dumps(asyncio.run(fetch(root, warm, list(uris)))))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
