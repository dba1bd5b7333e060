"""Who may work on the store right now: everybody until it closes, one at a time per model."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from agent.storage.errors import StoreUnavailable, translated


class Gate:
    """Descriptors are closed only when nobody uses them: a number that is used again would be another folder."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._closing = threading.Event()
        self._calls = 0
        self._idle = threading.Condition()
        self._keys: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)

    def is_closing(self) -> bool:
        return self._closing.is_set()

    def close(self) -> bool:
        """Refuse new calls and wait for those under way; False when it was closed before."""
        with self._idle:
            if self._closing.is_set():
                return False
            self._closing.set()
            self._idle.wait_for(lambda: self._calls == 0)
            return True

    @contextmanager
    def call(self, what: str) -> Iterator[None]:
        """Any use of the store; its `OSError`s come out as `FetchError`s that begin with `what`."""
        with self._idle:
            if self._closing.is_set():
                raise StoreUnavailable(f"{self._name} was closed")
            self._calls += 1
        try:
            with translated(what):
                yield
        finally:
            with self._idle:
                self._calls -= 1
                self._idle.notify_all()

    @contextmanager
    def change(self, key: str, what: str) -> Iterator[None]:
        """A use that changes one model."""
        with self.call(what), self._keys[key]:
            yield
