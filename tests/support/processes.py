"""Child processes that never outlive us, with their output in a file."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(
    condition: Callable[[], bool], *, seconds: float, what: str, interval: float = 0.1
) -> None:
    """Poll until true; TimeoutError names what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(interval)


class Process:
    """One program: started, stopped gently or by -9, started again with the same arguments.

    The kernel kills it when the thread that started it dies, so that an interrupted run leaves nothing behind.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = [str(part) for part in command]
        self._environment = dict(os.environ if environment is None else environment)
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                preexec_fn=_die_with_parent,  # one prctl: safe between fork and exec
            )

    @property
    def pid(self) -> int:
        if self._child is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def returncode(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        self.signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait(10)

    def stop(self, *, seconds: float = 20) -> int | None:
        """SIGTERM and wait; SIGKILL when it takes longer. Returns the exit code."""
        if self._child is None:
            return None
        self.signal(signal.SIGTERM)
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.returncode

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_ready(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Until `ready`; fails at once, with the end of its output, when the program ends instead."""

        def ready_or_dead() -> bool:
            if not self.running:
                raise RuntimeError(
                    f"{self.name} ended with {self.returncode}:\n{self.output()[-3000:]}"
                )
            return ready()

        try:
            wait_until(ready_or_dead, seconds=seconds, what=f"{self.name} ready")
        except TimeoutError as exc:
            raise TimeoutError(f"{exc}\n{self.output()[-3000:]}") from None


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
