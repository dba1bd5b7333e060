"""Structured logs: a constant phrase and fields; the standard library's loggers go the same way."""

import logging
import sys
from typing import Any, Literal

import structlog

from shared.ops.limit import RateLimit

Level = Literal["debug", "info", "warning", "error"]

# Libraries that say at INFO what concerns nobody here.
_QUIET = (
    "aiohttp.access",
    "aiobotocore",
    "botocore",
    "urllib3",
    "httpx",
    "httpx2",
    "asyncio",
    "gcsfs",
    "s3fs",
)


def configure(level: str, format: str) -> None:
    """Route everything to standard error, as JSON lines or for a person's eyes, within `RateLimit`. May be called again."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any
    if format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RateLimit())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    """From now on, for everybody."""
    root = logging.getLogger()
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
