"""A real FTP server (pyftpdlib), for what is read through fsspec."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from pathlib import Path

from tests.support.processes import LOOPBACK, scratch

with warnings.catch_warnings():
    # It stands on asyncore, of which Python 3.11 says that it will go.
    warnings.simplefilter("ignore", DeprecationWarning)
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import ThreadedFTPServer

USER, PASSWORD = "reader", "canary-ftp-password"


class FtpServer(contextlib.ExitStack):
    """`with FtpServer() as ftp:` — `ftp.place` is host and port; files below `ftp.files` are for USER."""

    def __enter__(self) -> FtpServer:
        super().__enter__()
        logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
        self.files: Path = self.enter_context(scratch("ftp"))
        authorizer = DummyAuthorizer()
        authorizer.add_user(USER, PASSWORD, str(self.files))
        handler = type("Handler", (FTPHandler,), {"authorizer": authorizer})
        self._server = ThreadedFTPServer((LOOPBACK, 0), handler)
        self.place = f"{LOOPBACK}:{self._server.address[1]}"
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        self.callback(thread.join, 10)
        self.callback(self._server.close_all)
        return self

    def put(self, name: str, content: bytes) -> None:
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
