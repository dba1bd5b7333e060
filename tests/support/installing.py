"""Where programs of the tests are kept, what installs them, and what a person who waits for that sees."""

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_PROGRESS_SECONDS = 10


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "localmodel"


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def installer() -> Sequence[str]:
    """An environment that uv made has no pip."""
    uv = shutil.which("uv")
    return (
        (uv, "pip", "install", "--quiet") if uv else (sys.executable, "-m", "pip", "install", "-q")
    )


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """Say what begins, that it goes on, and how long it took."""
    started = time.monotonic()
    done = threading.Event()

    def tick() -> None:
        while not done.wait(_PROGRESS_SECONDS):
            print(f"… {what}: {time.monotonic() - started:.0f} s", flush=True)

    print(what, flush=True)
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
    print(f"{what}: done in {time.monotonic() - started:.0f} s", flush=True)
