"""A settings file that changes while the program runs: the log level follows it, and whatever else the program can change."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import structlog

from shared.ops.logging import set_level
from shared.ops.settings import Settings, SettingsError, load

# The kubelet takes about a minute to bring a changed ConfigMap.
LOOK_SECONDS: Final = 10.0

S = TypeVar("S", bound=Settings)

log = structlog.get_logger(__name__)


async def follow(
    model: type[S],
    file: Path,
    level: str,
    look: Callable[[S], None],
    *,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """For ever. A file that cannot be read changes nothing. level: in use now. look: told from time to time what the file says."""
    said = ""
    while True:
        await asyncio.sleep(look_seconds)
        try:
            settings = await asyncio.to_thread(load, model, file=file)
        except SettingsError as error:
            if str(error) != said:
                said = str(error)
                log.warning("settings are wrong, the former ones stay", error=said)
            continue
        said = ""
        if settings.log_level != level:
            level = settings.log_level
            set_level(level)
            log.warning("log level changed", to=level)
        look(settings)
