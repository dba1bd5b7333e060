"""The plugin as a person runs it, in a process of its own, and an API server that answers from a fleet in memory."""

import asyncio
import gc
import io
import json
import logging
import os
import pty
import signal
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import structlog

from controller.cli import main
from tests.support.cluster import REPOSITORY
from tests.unit.cli.fleet import Cluster
from tests.unit.kube.wire import Answer, Asked, Responder, listing, refusal

PROGRAM = (sys.executable, "-m", "controller.cli")
_SECONDS = 60
_SERVING = "/apis/serving.kserve.io/v1alpha1"
_PATHS = {
    f"{_SERVING}/localmodelcaches": "cache",
    f"{_SERVING}/localmodelnamespacecaches": "cache",
    f"{_SERVING}/localmodelnodegroups": "group",
    f"{_SERVING}/localmodelnodes": "work",
    "/api/v1/nodes": "node",
    "/apis/coordination.k8s.io/v1/leases": "lease",
}


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """Without anything of the person who runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KUBE", "LOCALMODEL_", "AWS_", "HF_"))
        and name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")
    }
    return {**kept, "HOME": "/nonexistent", "PYTHONPATH": str(REPOSITORY), **more}


async def run(
    *arguments: str | Path, env: Mapping[str, str] | None = None, given: str = ""
) -> Ended:
    """The console entry point in a thread: a process of its own costs a second to start. given: standard input."""
    return await asyncio.wait_for(
        asyncio.to_thread(_run, tuple(map(str, arguments)), env or {}, given), _SECONDS
    )


def _run(arguments: tuple[str, ...], env: Mapping[str, str], given: str) -> Ended:
    out, err, code, threshold = io.StringIO(), io.StringIO(), 0, gc.get_threshold()
    with (
        mock.patch.dict(os.environ, environment(**env), clear=True),
        mock.patch.object(sys, "argv", ["kubectl-localmodel", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO(given)),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:  # what a program sets for itself must not stay here
            gc.set_threshold(*threshold)
            logging.disable(logging.NOTSET)
            structlog.reset_defaults()
    return Ended(code, out.getvalue(), err.getvalue())


async def run_process(
    program: tuple[str, ...], *arguments: str | Path, env: Mapping[str, str] | None = None
) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *program,
        *map(str, arguments),
        env=environment(**(env or {})),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    return Ended(process.returncode, out.decode(), err.decode())


class Terminal:
    """`async with Terminal(…) as screen:` a run on a terminal of 120 × 40; `text` is all that it was sent."""

    def __init__(
        self, *arguments: str, env: Mapping[str, str], program: tuple[str, ...] = PROGRAM
    ) -> None:
        self._command = (*program, *arguments)
        self._env = environment(TERM="xterm-256color", COLUMNS="120", LINES="40", **env)
        self.text = ""

    async def __aenter__(self) -> "Terminal":
        self._master, slave = pty.openpty()
        self.process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            # Whoever runs the tests in the background has Ctrl-C ignored, which children inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        os.close(self._master)

    def write(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    async def until(self, text: str) -> None:
        async with asyncio.timeout(_SECONDS):
            while text not in self.text:
                self._read()
                await asyncio.sleep(0.02)

    async def end(self) -> int:
        async with asyncio.timeout(_SECONDS):
            while self.process.returncode is None:
                self._read()
                await asyncio.sleep(0.02)
        self._read()
        return self.process.returncode

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self.text += data.decode(errors="replace")
        except (BlockingIOError, OSError):
            return


def serving(cluster: Cluster, events: tuple[dict[str, Any], ...] = ()) -> Responder:
    """Lists and single objects as the API has them."""

    def answer(asked: Asked) -> Answer:
        if asked.path.endswith("/events"):
            return listing(*events, version=1)
        collection, _, name = asked.path.rpartition("/")
        namespace = None
        if "/namespaces/" in asked.path:
            head, _, tail = asked.path.partition("/namespaces/")
            namespace, _, rest = tail.partition("/")
            plural, _, name = rest.partition("/")
            collection = f"{head}/{plural}"
            if not name:
                return _list(cluster, collection, namespace)
        elif asked.path in _PATHS:
            return _list(cluster, asked.path, None)
        if asked.method == "PATCH":
            return Answer(body={"metadata": {"name": name}})
        key = f"{namespace}/{name}" if namespace else name
        found = cluster.stored.get((_PATHS[collection], key))
        return Answer(body=found) if found else refusal(404, "NotFound")

    return answer


def _list(cluster: Cluster, path: str, namespace: str | None) -> Answer:
    kind, own = _PATHS[path], path.endswith("localmodelnamespacecaches")
    items = [
        wire
        for (have, _), wire in cluster.stored.items()
        if have == kind
        and (kind != "cache" or own == ("namespace" in wire["metadata"]))
        and (namespace is None or wire["metadata"].get("namespace") == namespace)
    ]
    return listing(*items, version=1)


def bodies(asked: list[Asked]) -> list[tuple[str, Mapping[str, str], Any]]:
    """What was written: path, query and body."""
    return [
        (one.path, one.query, json.loads(json.dumps(one.body)))
        for one in asked
        if one.method != "GET"
    ]
