"""A forward proxy that asks for a name and a password: `with ForwardProxy() as proxy:` — `proxy.url` is for HTTP_PROXY."""

import base64
import contextlib
import socket
import threading
from typing import Self
from urllib.parse import urlsplit

_NAME, _PASSWORD = "someone", "p@ss word"


class ForwardProxy:
    """CONNECT for https, absolute addresses for http; one request per connection. seen: first lines of requests.

    refused: requests without the right name and password.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.refused = 0
        self._sockets: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://{_NAME}:p%40ss%20word@127.0.0.1:{self._listener.getsockname()[1]}"
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
            self._sockets.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            first, *headers = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
            self.seen.append(first)
            wanted = base64.b64encode(f"{_NAME}:{_PASSWORD}".encode()).decode()
            if f"Proxy-Authorization: Basic {wanted}" not in headers:
                self.refused += 1
                client.sendall(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n")
                return
            method, target, _ = first.split(" ")
            place = urlsplit(target if method != "CONNECT" else f"//{target}")
            with socket.create_connection((place.hostname or "", place.port or 80)) as server:
                self._sockets.add(server)
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 Go\r\n\r\n")
                else:
                    query = f"?{place.query}" if place.query else ""
                    kept = [line for line in headers if not line.startswith("Proxy-")]
                    lines = [f"{method} {place.path}{query} HTTP/1.1", *kept, "Connection: close"]
                    server.sendall("\r\n".join([*lines, "", ""]).encode())
                back = threading.Thread(target=_pour, args=(server, client), daemon=True)
                back.start()
                _pour(client, server)
                back.join()


def _pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
