"""TLS before a server that speaks plain HTTP: `with TlsFront(server.url, files) as front:` — `front.url` begins with https."""

import contextlib
import socket
import ssl
import threading
from typing import Self
from urllib.parse import urlsplit

from tests.support.certificates import ServerFiles


class TlsFront:
    """Every connection is passed on as it is, so that the server sees the front's name as its host."""

    def __init__(self, url: str, files: ServerFiles) -> None:
        place = urlsplit(url)
        self._server = (place.hostname or "", place.port or 80)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(files.certificate, files.key)
        self._sockets: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"https://{self.place}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(client, server_side=True) as secure,
            socket.create_connection(self._server) as server,
        ):
            self._sockets |= {secure, server}
            back = threading.Thread(target=_pour, args=(server, secure), daemon=True)
            back.start()
            _pour(secure, server)
            back.join()


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
