"""Folders and files that the agent's user may not use: a reason that says so, nothing lost, and it goes on when they are mended."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.cli.pull import PullOptions, wanted_from
from agent.copying.copy import Copier, Have
from agent.copying.progress import CopyWatch
from agent.errors import Retryable
from agent.policy import SourcePolicy
from agent.storage.store import Store
from shared.domain.reasons import Reason
from shared.domain.storage_key import storage_key
from tests.component.agent.copies import copier
from tests.component.agent.terminal import files_below
from tests.support.rights import SOMEBODY, modes_count
from tests.support.servers.hub import HubServer

MODEL = {"config.json": b"{}", "weights.safetensors": os.urandom(50_000)}
URI = "hf://rights/llama"
KEY = storage_key(URI)


@asynccontextmanager
async def copies_of(hub: HubServer, root: Path) -> AsyncIterator[tuple[Store, Copier]]:
    hub.add("rights/llama", MODEL)
    policy = SourcePolicy.unrestricted(hf_endpoint=hub.endpoint)
    with modes_count():
        async with copier(root, policy) as made:
            yield made


async def test_a_staged_folder_that_may_not_be_written_is_a_reason_until_it_may(
    hub: HubServer, root: Path
) -> None:
    wanted = wanted_from(PullOptions(URI, root))
    async with copies_of(hub, root) as (store, copies):
        staged = store.staging(KEY).tree
        os.chown(staged, SOMEBODY, SOMEBODY)
        staged.chmod(0o755)
        with pytest.raises(Retryable, match="Permission denied") as refused:
            await copies.copy(wanted, CopyWatch(), Have())
        assert refused.value.reason is Reason.DISK_ERROR
        assert list((root / "models").iterdir()) == []
        os.chown(staged, 0, 0)
        await copies.copy(wanted, CopyWatch(), Have())
    assert files_below(root / "models" / KEY) == MODEL


async def test_a_foreign_folder_with_an_unreadable_file_is_fetched_and_exchanged_away(
    hub: HubServer, root: Path
) -> None:
    folder = root / "models" / KEY
    folder.mkdir(parents=True)
    for name, content in MODEL.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
        os.chown(folder / name, SOMEBODY, SOMEBODY)
    wanted = wanted_from(PullOptions(URI, root))
    async with copies_of(hub, root) as (store, copies):
        watch = CopyWatch()
        await copies.copy(wanted, watch, Have(foreign=True))
        assert store.inspect(KEY) == ()
        assert watch.moved == sum(map(len, MODEL.values()))
    assert files_below(folder) == MODEL
    assert list((root / ".localmodel" / "retired").glob(f"{KEY}.*"))
