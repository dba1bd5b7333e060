"""Who asks for it has published files read again at once."""

import asyncio
import os
from pathlib import Path

from agent.node.requests import answer_requests
from agent.storage.requests import ask, asked, in_use
from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support.trees import KEY, publish


async def test_requests_are_answered_once_and_wait_for_a_disk_that_is_in_trouble(
    tmp_path: Path,
) -> None:
    store = Store.open(tmp_path)
    assert in_use(tmp_path)
    publish(store, {"a": os.urandom(9000), "b": b"2"})
    rotten = tmp_path / "models" / KEY / "a"
    times = rotten.stat()
    rotten.write_bytes(os.urandom(9000))
    os.utime(rotten, ns=(times.st_atime_ns, times.st_mtime_ns))
    unknown = storage_key("hf://nobody/nothing")
    for key in (KEY, unknown):
        ask(tmp_path, key)
    (tmp_path / ".localmodel" / "verify.else").touch()
    assert set(asked(tmp_path)) == {KEY, unknown}

    found: list[tuple[str, tuple[str, ...]]] = []
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    running = asyncio.create_task(
        answer_requests(
            store,
            tmp_path,
            found=lambda key, damaged: found.append((key, damaged)),
            read=lambda _: None,
        )
    )
    await asyncio.sleep(0.5)
    assert KEY in asked(tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / "models")
    async with asyncio.timeout(20):
        while asked(tmp_path):  # noqa: ASYNC110  # the folder is the truth
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert found == [(KEY, ("a",))]
    assert store.inspect(KEY) == ("a",)
    store.close()
    assert not in_use(tmp_path)
