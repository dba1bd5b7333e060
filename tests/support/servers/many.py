"""nginx as an S3 server and as a Hub with models of any number of tiny files: the cheapest server there is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.processes import LOOPBACK, free_port, running, scratch
from tests.support.servers.listings import PAGE, Listed, s3_page
from tests.support.servers.web import nginx

CONTENT = b"tiny"
BUCKET = "models"
REPO = "acme/many"
COMMIT = "c0ffee" * 6 + "c0ff"
# As nginx makes them: of the file's time and size.
_ETAG = f"{1:x}-{len(CONTENT):x}"
_GIT_NAME = hashlib.sha1(f"blob {len(CONTENT)}\0".encode() + CONTENT).hexdigest()

_CONFIG = """
daemon off;
{user}
worker_processes 1;
error_log {folder}/error.log error;
pid {folder}/pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/tmp;
    proxy_temp_path {folder}/tmp;
    fastcgi_temp_path {folder}/tmp;
    uwsgi_temp_path {folder}/tmp;
    scgi_temp_path {folder}/tmp;
    keepalive_requests 1000000;
    map $args $page {{ default 0; "~(continuation-token|cursor)=(?<number>[0-9]+)" $number; }}
    map $page $following {{ default ""; include {folder}/following; }}
    server {{
        listen {address}:{port} backlog=4096;
        root {folder};
        location = /{bucket} {{ default_type application/xml; try_files /s3-$page =404; }}
        location /{bucket}/ {{ try_files /content =404; }}
        location /api/models/{repo}/tree/ {{
            default_type application/json;
            add_header Link $following;
            try_files /hub-$page =404;
        }}
        location /api/models/{repo} {{ default_type application/json; try_files /info =404; }}
        location /{repo}/resolve/ {{
            add_header X-Repo-Commit {commit};
            try_files /content =404;
        }}
    }}
}}
"""


class ManyFiles(contextlib.ExitStack):
    """`with ManyFiles(100_000) as many:` — the same files at `many.s3_uri` and `many.hub_uri`, from `many.url`."""

    s3_uri = f"s3://{BUCKET}/many"
    hub_uri = f"hf://{REPO}"
    # Nobody looks at them.
    keys: Final = {"AWS_ACCESS_KEY_ID": "MANYMANYMANYMANY0001", "AWS_SECRET_ACCESS_KEY": "any"}

    def __init__(self, count: int) -> None:
        super().__init__()
        self._paths = [
            f"shards/{number // 5000:03}/shard-{number:08}-of-{count:08}.bin"
            for number in range(count)
        ]

    @property
    def size(self) -> int:
        return len(CONTENT) * len(self._paths)

    def __enter__(self) -> ManyFiles:
        super().__enter__()
        folder = self.enter_context(scratch("many"))
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        self._write(folder)
        config = folder / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                # As root, nginx would give its workers to `nobody`, who cannot read the folder.
                user="user root;" if os.geteuid() == 0 else "",
                folder=folder,
                address=LOOPBACK,
                port=port,
                bucket=BUCKET,
                repo=REPO,
                commit=COMMIT,
            )
        )
        self.enter_context(
            running(
                [nginx(), "-p", folder, "-e", folder / "error.log", "-c", config],
                log=folder / "log",
                ready=f"{self.url}/",
            )
        )
        return self

    def _write(self, folder: Path) -> None:
        content = folder / "content"
        content.write_bytes(CONTENT)
        os.utime(content, (1, 1))
        links = []
        for number, (page, last) in enumerate(self._pages()):
            listed = [Listed(f"many/{path}", len(CONTENT), _ETAG) for path in page]
            following = None if last else str(number + 1)
            (folder / f"s3-{number}").write_text(s3_page(BUCKET, "many/", listed, following))
            (folder / f"hub-{number}").write_text(_hub_page(page))
            if not last:
                tree = f"{self.url}/api/models/{REPO}/tree/{COMMIT}"
                link = f'<{tree}?recursive=true&cursor={number + 1}>; rel="next"'
                links.append(f"{number} '{link}';\n")
        (folder / "following").write_text("".join(links))
        info = {"id": REPO, "modelId": REPO, "sha": COMMIT, "private": False, "gated": False}
        (folder / "info").write_text(json.dumps({**info, "tags": [], "siblings": []}))

    def _pages(self) -> Iterator[tuple[list[str], bool]]:
        """Paths, and whether these are the last ones."""
        for start in range(0, len(self._paths), PAGE):
            yield self._paths[start : start + PAGE], start + PAGE >= len(self._paths)


def _hub_page(paths: list[str]) -> str:
    return json.dumps(
        [{"type": "file", "oid": _GIT_NAME, "size": len(CONTENT), "path": path} for path in paths]
    )
