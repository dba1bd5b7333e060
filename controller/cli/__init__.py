"""`kubectl localmodel`: what caches do and why, for the person who asks, with that person's own rights."""

import gc
import io
import os
import sys

# The imports make objects that stay; looking through them again and again is a tenth of the start.
_COLLECT_EVERY = 50_000


def main() -> None:
    """Console entry point of `kubectl-localmodel`. Even a bug ends in a sentence; LOCALMODEL_DEBUG=1 shows where it is."""
    gc.set_threshold(_COLLECT_EVERY)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a letter gets another one
            stream.reconfigure(errors="replace")
    from controller.cli.outcome import ended

    with ended(debug=bool(os.environ.get("LOCALMODEL_DEBUG"))):
        from controller.cli.commands import app

        # What kubectl's users type, so that usage lines can be copied.
        app(prog_name="kubectl localmodel")


def complete() -> None:
    """Console entry point of `kubectl_complete-localmodel`, which kubectl asks for completions of our arguments.

    Never fails and never prints anything else: an error would garble the line that somebody types.
    """
    from contextlib import suppress

    files = False
    with suppress(Exception):
        from controller.cli.completion import candidates, is_file

        files = is_file(sys.argv[1:])
        for found in candidates(sys.argv[1:]):
            sys.stdout.write(found + "\n")
    # For Cobra: offer files, or: these are all.
    sys.stdout.write(":0\n" if files else ":4\n")
