import asyncio
import logging
from pathlib import Path

from agent.node.settings import AgentSettings
from agent.node.tuning import budget_of, follow_settings
from agent.transfer.budget import Budget


async def test_a_changed_file_changes_the_budget_and_a_broken_one_does_not(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("node_name: a\n")
    used: asyncio.Queue[Budget] = asyncio.Queue()
    start = budget_of(AgentSettings(node_name="a"))
    task = asyncio.create_task(
        follow_settings(file, "info", start, used.put_nowait, look_seconds=0.01)
    )

    async def after(text: str) -> Budget:
        draft = tmp_path / "draft"
        draft.write_text(text)
        draft.rename(file)
        return await asyncio.wait_for(used.get(), 10)

    changed = await after("node_name: a\nconnections: 7\nmax_bytes_per_second: 1000\n")
    assert (changed.connections, changed.bytes_per_second) == (7, 1000)
    file.write_text("connections: many\n")
    await asyncio.sleep(0.05)
    file.unlink()
    await asyncio.sleep(0.05)
    changed = await after("node_name: a\nmemory_mib: 16\n")
    assert (changed.connections, changed.bytes_in_flight) == (256, 16 << 20)
    assert changed.bytes_per_second is None
    assert used.empty()
    task.cancel()


async def test_a_changed_log_level_holds_at_once(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("node_name: a\nlog_level: debug\nconnections: 7\n")
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    used: asyncio.Queue[Budget] = asyncio.Queue()
    start = budget_of(AgentSettings(node_name="a"))
    task = asyncio.create_task(
        follow_settings(file, "info", start, used.put_nowait, look_seconds=0.01)
    )
    try:
        await asyncio.wait_for(used.get(), 10)
        assert root.level == logging.DEBUG
    finally:
        task.cancel()
        root.setLevel(before)
