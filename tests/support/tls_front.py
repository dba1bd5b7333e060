"""TLS before a server that speaks plain HTTP: `with TlsFront(server.url, files) as front:` — `front.url` begins with https."""

import contextlib
import socket
import ssl
from urllib.parse import urlsplit

from tests.support.certificates import ServerFiles
from tests.support.relay import Relay


class TlsFront(Relay):
    """Every connection is passed on as it is, so that the server sees the front's name as its host."""

    def __init__(self, url: str, files: ServerFiles) -> None:
        super().__init__()
        place = urlsplit(url)
        self._server = (place.hostname or "", place.port or 80)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(files.certificate, files.key)

    @property
    def url(self) -> str:
        return f"https://{self.place}"

    def _serve(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            self._context.wrap_socket(client, server_side=True) as secure,
            socket.create_connection(self._server) as server,
        ):
            self._join(secure, server)
