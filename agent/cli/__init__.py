"""`localmodel-agent`: the program on every node, and the same engine for one person's folder."""

import gc
import os
import sys
from typing import Final

# Thousands of files are as many objects that live as long as their copy: looking through all of them as often as Python
# does by itself takes a tenth of the time of many small files.
COLLECT: Final = (20_000, 20, 20)


def main() -> None:
    """Console entry point. The commands' own imports happen when one of them runs.

    Even a bug ends in a sentence; LOCALMODEL_DEBUG=1 shows where it is.
    """
    gc.set_threshold(*COLLECT)
    try:
        if sys.argv[1:2] == ["run"]:
            from agent.cli.serve import main as run

            run(sys.argv[2:])
        from agent.cli.commands import app

        app()
    except Exception as error:
        if os.environ.get("LOCALMODEL_DEBUG"):
            raise
        from shared.domain.printable import clean

        what = clean(f"{type(error).__name__}: {error}")
        sys.stderr.write(f"Error: unexpected {what} (LOCALMODEL_DEBUG=1 shows where)\n")
        sys.exit(1)
