"""Child processes that never outlive us, with their output in a file."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Below the range from which the kernel takes ports for outgoing connections: such a port stays free while its program is
# down. A generator of its own, so that tests with the same seed do not choose the same ports.
_PORTS = range(16384, 32768)
_choose = random.SystemRandom().choice
_given: set[int] = set()
_TIED = Path(__file__).with_name("tied.py")


def free_port() -> int:
    """A loopback port that nobody listens on; never the same twice."""
    while len(_given) < len(_PORTS):
        port = _choose(_PORTS)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port is left")


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

    The kernel kills it when the thread that started it ends, so that an interrupted run leaves nothing behind: start
    it from a thread that lives as long as it should.
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
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-IS", str(_TIED), str(os.getpid()), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
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
