"""How a command ends: exit codes, and errors as sentences."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from agent.errors import FetchError, Stalled
from agent.storage.errors import StoreError


class Exit(IntEnum):
    """0 done · 1 failed, may succeed later · 2 wrong usage · 3 fails until something is changed ·
    4 the folder cannot be used · 5 files are damaged · 130 interrupted, can be resumed."""

    OK = 0
    RETRYABLE = 1
    USAGE = 2
    STALLED = 3
    STORE = 4
    DAMAGED = 5
    INTERRUPTED = 130


def say(text: str) -> None:
    """To a person, beside the output that scripts read."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 — this is the terminal's own channel


def put(text: str) -> None:
    """The command's result."""
    print(text, flush=True)  # noqa: T201 — this is the command's output


def files(count: int) -> str:
    """`1 file`, `2 files`."""
    return f"{count} file" if count == 1 else f"{count} files"


def code_for(error: FetchError) -> Exit:
    match error:
        case StoreError():
            return Exit.STORE
        case Stalled():
            return Exit.STALLED
        case _:
            return Exit.RETRYABLE


@contextmanager
def sentences() -> Iterator[None]:
    """Errors that are foreseen end the command with a sentence and their exit code."""
    try:
        yield
    except FetchError as error:
        say(f"Error: {error.message} ({error.reason.value})")
        raise typer.Exit(code_for(error)) from None
