"""A forward proxy that asks for a name and a password: `with ForwardProxy() as proxy:` — `proxy.url` is for HTTP_PROXY.

What stands before it, such as a `TlsFront`, is used with the same name and password: `proxy.url_at(front.url)`.
"""

import base64
import contextlib
import socket
from urllib.parse import urlsplit

from tests.support.relay import Relay

_NAME, _PASSWORD = "someone", "p@ss word"


class ForwardProxy(Relay):
    """CONNECT for https, absolute addresses for http; one request per connection. seen: first lines of requests.

    refused: requests without the right name and password.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.refused = 0

    @property
    def url(self) -> str:
        return self.url_at(f"http://{self.place}")

    @staticmethod
    def url_at(place: str) -> str:
        return place.replace("://", f"://{_NAME}:p%40ss%20word@", 1)

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
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 Go\r\n\r\n")
                else:
                    query = f"?{place.query}" if place.query else ""
                    kept = [line for line in headers if not line.startswith("Proxy-")]
                    lines = [f"{method} {place.path}{query} HTTP/1.1", *kept, "Connection: close"]
                    server.sendall("\r\n".join([*lines, "", ""]).encode())
                self._join(client, server)
