"""Where every thread and every task is right now: names and lines of code, never values."""

import asyncio
import sys
import threading
import traceback
from types import FrameType
from typing import Any, Final

# Deeper frames are the interpreter's and the loop's own.
_FRAMES: Final = 12
# Thousands of parts may be in flight; the first ones show what all wait for.
_TASKS: Final = 200


def stacks() -> dict[str, Any]:
    """JSON-ready; `more_tasks` counts those that are not shown. Called in the loop."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    tasks = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    return {
        "threads": {
            f"{names.get(ident, 'unknown')} {ident}": _lines(frame)
            for ident, frame in sys._current_frames().items()
        },
        "tasks": [
            {
                "name": task.get_name(),
                "at": [
                    f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
                    for frame in task.get_stack(limit=_FRAMES)
                ],
            }
            for task in tasks[:_TASKS]
        ],
        "more_tasks": max(len(tasks) - _TASKS, 0),
    }


def _lines(frame: FrameType) -> list[str]:
    found = traceback.walk_stack(frame)
    return [
        f"{each.f_code.co_filename}:{line} {each.f_code.co_qualname}"
        for (each, line), _ in zip(found, range(_FRAMES), strict=False)
    ]
