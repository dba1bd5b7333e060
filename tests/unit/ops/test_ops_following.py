"""A settings file that changes under a running program."""

import argparse
import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.ops.following import follow
from shared.ops.settings import Settings, add_log_level, load, use_log_level


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    found = logging.getLogger()
    before = found.level
    found.setLevel(logging.INFO)
    yield found
    found.setLevel(before)


async def test_the_log_level_follows_the_file_and_mistakes_change_nothing(
    tmp_path: Path, root: logging.Logger
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("log_level: debug\n")
    looks: asyncio.Queue[Settings] = asyncio.Queue()

    async def look() -> Settings:
        return await asyncio.wait_for(looks.get(), 10)

    task = asyncio.create_task(follow(Settings, file, "info", looks.put_nowait, look_seconds=0.01))
    try:
        assert (await look()).log_level == "debug"
        assert root.level == logging.DEBUG
        file.write_text("log_level: loud\n")
        await asyncio.sleep(0.1)
        file.unlink()
        await asyncio.sleep(0.1)
        assert root.level == logging.DEBUG
        file.write_text("log_level: warning\n")
        while (await look()).log_level != "warning":
            pass
        assert root.level == logging.WARNING
    finally:
        task.cancel()


@pytest.mark.parametrize(("given", "level"), [(["--log-level", "error"], "error"), ([], "debug")])
def test_the_command_lines_level_goes_before_the_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], level: str
) -> None:
    monkeypatch.setenv("LOCALMODEL_LOG_LEVEL", "debug")
    file = tmp_path / "settings.yaml"
    file.write_text("log_level: warning\n")
    parser = argparse.ArgumentParser()
    add_log_level(parser)
    use_log_level(parser.parse_args(given))
    assert load(Settings, file=file).log_level == level
