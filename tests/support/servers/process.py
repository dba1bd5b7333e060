"""A server program: started, awaited until it answers, ended with all it started."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOOPBACK = "127.0.0.1"
_STOP_SECONDS = 5.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held open until all are chosen, so they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder of the server's own, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"localmodel-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    ready: str,
    seconds: float = 30.0,
    environment: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    """The program while it runs; `ready`: URL that answers anything at all once it is up."""
    with log.open("wb") as output:
        program = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        _await(program, ready, log, seconds)
        yield program
    finally:
        _stop(program, stop)


def answers(url: str) -> bool:
    """Whether something speaks HTTP there, whatever it says."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except (OSError, ValueError):
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


def _await(program: subprocess.Popen[bytes], ready: str, log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not answers(ready):
        ended = program.poll() is not None
        if ended or time.monotonic() > deadline:
            said = log.read_bytes()[-2000:].decode(errors="replace")
            why = f"ended with {program.returncode}" if ended else f"is not up after {seconds} s"
            raise RuntimeError(f"{program.args!r} {why}:\n{said}")
        time.sleep(0.05)


def _stop(program: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Ends the whole process group, which `start_new_session` made."""
    if program.poll() is None:
        os.killpg(program.pid, how)
        try:
            program.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
