"""Child processes that never outlive us, with their output in a file."""

import contextlib
import http.client
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOOPBACK = "127.0.0.1"

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
            probe.bind((LOOPBACK, port))
            return port
    raise RuntimeError("no free port is left")


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder of the server's own, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"localmodel-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    ready: str,
    seconds: float = 30.0,
    environment: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
    authority: Path | None = None,
) -> Iterator[Process]:
    """The program while it runs; `ready`: URL that answers anything at all once it is up, over TLS with `authority`."""
    program = Process(
        Path(command[0]).name,
        [str(part) for part in command],
        log=log,
        environment={**os.environ, **(environment or {})},
    )
    program.start()
    try:
        program.wait_ready(lambda: answers(ready, authority=authority), seconds=seconds)
        yield program
    finally:
        if stop is signal.SIGKILL:
            program.kill()
        else:
            program.stop(seconds=5)


def answers(url: str, *, authority: Path | None = None) -> bool:
    """Whether something speaks HTTP there, whatever it says."""
    context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(url, timeout=2):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False


def send_many(
    endpoint: str, requests: Iterable[tuple[str, str, bytes]], *, connections: int = 4
) -> None:
    """(method, path, body) each, on a few kept-alive connections; raises on the first that is refused."""
    host = endpoint.partition("://")[2]
    todo = list(requests)

    def send(share: Sequence[tuple[str, str, bytes]]) -> None:
        with contextlib.closing(http.client.HTTPConnection(host, timeout=30)) as connection:
            for method, path, body in share:
                connection.request(method, path, body)
                answer = connection.getresponse()
                answer.read()
                if answer.status >= 300:
                    raise RuntimeError(f"{method} {path}: {answer.status}")

    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(send, [todo[start::connections] for start in range(connections)]))
