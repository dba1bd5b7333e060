"""A real web server (nginx) over a folder: plain HTTP and HTTPS, with ranges, ETags, and some difficult places."""

from __future__ import annotations

import contextlib
import os
import shutil

from tests.support.certificates import write_server
from tests.support.processes import LOOPBACK, free_ports, running, scratch

_CONFIG = """
daemon off;
worker_processes 1;
error_log {folder}/error.log warn;
pid {folder}/pid;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/tmp;
    proxy_temp_path {folder}/tmp;
    fastcgi_temp_path {folder}/tmp;
    uwsgi_temp_path {folder}/tmp;
    scgi_temp_path {folder}/tmp;
    default_type application/octet-stream;
    sendfile on;
    server {{
        listen {address}:{http};
        listen {address}:{https} ssl;
        ssl_certificate {folder}/tls/server.crt;
        ssl_certificate_key {folder}/tls/server.key;
        root {folder}/files;
        location / {{ }}
        location /private/ {{ if ($http_authorization = "") {{ return 401; }} }}
        location /forbidden/ {{ return 403; }}
        location /busy/ {{ add_header Retry-After 7 always; return 429; }}
        location /broken/ {{ return 500; }}
        location /away/ {{ return 503; }}
        location /moved/ {{ rewrite ^/moved/(.*)$ /$1 redirect; }}
        location /loop/ {{ return 302 $request_uri; }}
        location /elsewhere/ {{ return 302 http://169.254.169.254/latest/; }}
        location /plain-http/ {{ rewrite ^/plain-http/(.*)$ http://{address}:{http}/$1 redirect; }}
        location /no-ranges/ {{ alias {folder}/files/; max_ranges 0; }}
        location /paced/ {{ alias {folder}/files/; limit_rate 2m; }}
        location /no-etag/ {{ alias {folder}/files/; etag off; }}
        location /bare/ {{ alias {folder}/files/; etag off; if_modified_since off; add_header Last-Modified ""; }}
        location /digest/ {{
            alias {folder}/files/;
            add_header Repr-Digest $arg_digest;
        }}
        location /get-only/ {{ alias {folder}/files/; limit_except GET {{ deny all; }} if ($request_method = HEAD) {{ return 405; }} }}
    }}
}}
"""


class WebServer(contextlib.ExitStack):
    """`with WebServer() as web:` — `web.url` and `web.tls_url` serve the files below `web.files`.

    `web.authority`: PEM file of the authority that signed the certificate for localhost and 127.0.0.1.
    """

    def __init__(self, *, address: str = LOOPBACK) -> None:
        super().__init__()
        self._address = address

    def __enter__(self) -> WebServer:
        super().__enter__()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def put(self, name: str, content: bytes) -> None:
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def requests(self) -> list[str]:
        """The access log so far."""
        return self._log.read_text().splitlines()

    def _start(self) -> None:
        folder = self.enter_context(scratch("web"))
        self.files = folder / "files"
        self.files.mkdir()
        self._log = folder / "access.log"
        self.authority = write_server(folder / "tls").authority
        http, https = free_ports(2)
        self.url = f"http://{self._address}:{http}"
        self.tls_url = f"https://localhost:{https}"
        config = folder / "nginx.conf"
        # As root, nginx would give its workers to `nobody`, who cannot read the folder.
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(
            user + _CONFIG.format(folder=folder, address=self._address, http=http, https=https)
        )
        self.enter_context(
            running(
                [nginx(), "-p", folder, "-e", folder / "error.log", "-c", config],
                log=folder / "log",
                ready=f"{self.url}/",
            )
        )


def nginx() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError("nginx is not installed: apt-get install nginx-light")
    return found
