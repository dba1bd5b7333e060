"""How a command ends: exit codes, and errors as sentences with a hint."""

import asyncio
import os
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NoReturn

from shared.domain.printable import clean

BROKEN_PIPE = 141  # as the shell shows a program that SIGPIPE ended


class Exit(IntEnum):
    """0 done, or the answer is yes · 1 failed, may succeed later · 2 wrong usage · 3 fails until something is changed ·
    4 the answer is no · 130 interrupted."""

    OK = 0
    RETRYABLE = 1
    USAGE = 2
    STALLED = 3
    NO = 4
    INTERRUPTED = 130


class Problem(Exception):
    """A command cannot do its work. A sentence, what may help, and the exit code."""

    def __init__(self, sentence: str, hint: str = "", *, exit: Exit = Exit.STALLED) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.hint = hint
        self.exit = exit


def say(text: str) -> None:
    """To a person, beside the output that scripts read."""
    sys.stderr.write(f"{clean(text)}\n")
    sys.stderr.flush()


class NotAllowed(Problem):
    """The caller's rights do not reach so far; some commands can do without."""


def run(work: Coroutine[Any, Any, Exit]) -> NoReturn:
    """To its end, which is the program's. Ctrl-C and a reader that went away end it quietly."""
    try:
        code = asyncio.run(work)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        # What is still buffered has nowhere to go; without this Python would complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    sys.exit(code)


@contextmanager
def ended(*, debug: bool) -> Iterator[None]:
    """Where a run ends other than well. debug: bugs keep their traceback."""
    try:
        yield
    except Problem as problem:
        say(f"Error: {problem.sentence}")
        if problem.hint:
            say(f"Hint: {problem.hint}")
        sys.exit(problem.exit)
    except Exception as error:
        if debug:
            raise
        say(f"Error: unexpected {type(error).__name__}: {error} (LOCALMODEL_DEBUG=1 shows where)")
        sys.exit(Exit.RETRYABLE)
