"""nginx as S3, GCS, Hugging Face Hub and plain web server: the cheapest server there is, so that clients are measured."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from tests.bench.content import File, Model
from tests.support.certificates import write_server
from tests.support.processes import LOOPBACK, free_ports, running
from tests.support.servers.listings import PAGE, Listed, s3_page
from tests.support.servers.web import nginx

BUCKET = "models"
OWNER = "bench"
COMMIT = "c0ffee" * 6 + "c0ff"
# Of more files no checksums are stated: nginx would need minutes to start with so large maps.
_MOST_STATED = 10_000

# Signatures are not looked at. A checksum of the whole object is stated where S3 does: asked for, and not of a range.
_CONFIG = """
daemon off;
{user}
worker_processes 1;
error_log {folder}/error.log error;
pid {folder}/pid;
events {{ worker_connections 2048; }}
http {{
    log_format bytes '$request_method $status $body_bytes_sent $request_uri';
    access_log {folder}/access.log bytes;
    client_body_temp_path {folder}/tmp;
    proxy_temp_path {folder}/tmp;
    fastcgi_temp_path {folder}/tmp;
    uwsgi_temp_path {folder}/tmp;
    scgi_temp_path {folder}/tmp;
    default_type application/octet-stream;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 1000000;
    map_hash_max_size 65536;
    map_hash_bucket_size 256;
    map $args $s3_listing {{ default /s3/none.xml; include {folder}/s3.map; }}
    map $args $gcs_listing {{ default /gcs/none.json; include {folder}/gcs.map; }}
    map "$arg_alt:$uri" $gcs_object {{
        "~^media:.*?/o/(.+)$" /content/{bucket}/$1;
        "~^:.*?/o/(.+)$" /gcs-object/$1;
    }}
    map $uri $crc64nvme {{ default ""; include {folder}/crc64nvme.map; }}
    map $uri $crc32c {{ default ""; include {folder}/crc32c.map; }}
    map $uri $linked {{ default ""; include {folder}/sha256.map; }}
    map "$http_x_amz_checksum_mode:$http_range" $amz_crc64nvme {{ default ""; "ENABLED:" $crc64nvme; }}
    map $amz_crc64nvme $amz_type {{ default FULL_OBJECT; "" ""; }}
    server {{
        listen {address}:{http} backlog=4096;
        listen {address}:{https} ssl backlog=4096;
        ssl_certificate {folder}/tls/server.crt;
        ssl_certificate_key {folder}/tls/server.key;
        root {folder}/lists;
        location ~ ^/{bucket}/?$ {{ default_type application/xml; try_files $s3_listing =404; }}
        location /{bucket}/ {{
            root {folder}/lists/content;
            add_header x-amz-checksum-crc64nvme $amz_crc64nvme;
            add_header x-amz-checksum-type $amz_type;
        }}
        location ~ ^(/download)?/storage/v1/b/{bucket}/o/(.+)$ {{
            add_header x-goog-generation 1;
            add_header x-goog-hash crc32c=$crc32c;
            try_files $gcs_object =404;
        }}
        location ~ ^/storage/v1/b/{bucket}/o$ {{ default_type application/json; try_files $gcs_listing =404; }}
        location ~ ^/storage/v1/b/{bucket}$ {{ default_type application/json; return 200 '{{"kind": "storage#bucket", "name": "{bucket}"}}'; }}
        location ~ ^/api/models/{owner}/([^/]+)/tree/ {{ default_type application/json; try_files /hub/$1/tree.json =404; }}
        location ~ ^/api/models/{owner}/([^/]+) {{ default_type application/json; try_files /hub/$1/info.json =404; }}
        location ~ ^/{owner}/([^/]+)/resolve/[^/]+/(.+)$ {{
            add_header X-Repo-Commit {commit};
            add_header X-Linked-Etag $linked;
            try_files /content/{bucket}/$1/$2 =404;
        }}
    }}
}}
"""


class Farm(contextlib.ExitStack):
    """`with Farm(folder, models) as farm:` — every model under all protocols; its files are in `folder`/content/models."""

    def __init__(self, folder: Path, models: Iterable[Model], *, hub: bool) -> None:
        super().__init__()
        self.folder = folder
        self.models = {model.name: model for model in models}
        self._hub = hub

    def __enter__(self) -> "Farm":
        super().__enter__()
        self.authority = write_server(self.folder / "tls").authority
        self.http_port, https = free_ports(2)
        self.url = f"http://{LOOPBACK}:{self.http_port}"
        self.tls_url = f"https://localhost:{https}"
        (self.folder / "lists").mkdir()
        (self.folder / "lists" / "content").symlink_to(self.folder / "content")
        self._write_lists()
        config = self.folder / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                folder=self.folder,
                # As root, nginx would give its workers to `nobody`, who cannot read the folder.
                user="user root;" if os.geteuid() == 0 else "",
                address=LOOPBACK,
                http=self.http_port,
                https=https,
                bucket=BUCKET,
                owner=OWNER,
                commit=COMMIT,
            )
        )
        self.enter_context(
            running(
                [
                    nginx(),
                    "-p",
                    self.folder,
                    "-e",
                    self.folder / "error.log",
                    "-c",
                    config,
                ],
                log=self.folder / "nginx.log",
                ready=f"{self.url}/",
            )
        )
        return self

    def paths(self, model: str) -> list[str]:
        """Of the model's files, as a plain web server has them."""
        found = self.models[model]
        return [_s3_path(found, file) for file in found.files]

    def sent(self) -> int:
        """Bytes of files that were sent since the last call, whatever else was."""
        log = self.folder / "access.log"
        total = 0
        for line in log.read_text().splitlines():
            _, status, count, _ = line.split(" ", 3)
            total += int(count) if status in {"200", "206"} else 0
        os.truncate(log, 0)
        return total

    def _write_lists(self) -> None:
        for model in self.models.values():
            self._list_s3(model)
            self._list_gcs(model)
            if self._hub:
                self._list_hub(model)
        self._put("s3/none.xml", s3_page(BUCKET, "", [], None))
        self._put("gcs/none.json", "{}")
        files = [
            (model, file)
            for model in self.models.values()
            for file in model.files
            if len(model.files) <= _MOST_STATED
        ]
        self._map("crc64nvme", [(_s3_path(m, f), f.crc64nvme) for m, f in files])
        google = f"/storage/v1/b/{BUCKET}/o/"
        self._map(
            "crc32c",
            [
                (f"{base}{google}{m.name}/{f.name}", f.crc32c)
                for m, f in files
                for base in ("", "/download")
            ],
        )
        self._map(
            "sha256",
            [
                (f"/{OWNER}/{m.name}/resolve/{revision}/{f.name}", f"'\"{f.sha256}\"'")
                for m, f in files
                if self._hub
                for revision in (COMMIT, "main")
            ],
        )

    def _list_s3(self, model: Model) -> None:
        pages = [model.files[at : at + PAGE] for at in range(0, len(model.files), PAGE)]
        rules: list[tuple[str, str]] = []
        for number, page in enumerate(pages):
            last = f"{model.name}/{page[-1].name}" if number + 1 < len(pages) else None
            name = f"s3/{model.name}-{number}.xml"
            listed = [Listed(f"{model.name}/{file.name}", file.size, file.etag) for file in page]
            self._put(name, s3_page(BUCKET, model.name, listed, last))
            rule = f"prefix={model.name}(%2F|/|&|$)"
            if number:
                before = pages[number - 1][-1].name
                token = f"{model.name}(/|%2F|%252F){before}"
                rules.insert(0, (f"~(marker|continuation-token)={token}", f"/{name}"))
            else:
                rules.append((f"~{rule}", f"/{name}"))
        self._map("s3", rules)

    def _list_gcs(self, model: Model) -> None:
        items = [_gcs_item(model, file, self.url) for file in model.files]
        self._put(f"gcs/{model.name}.json", json.dumps({"kind": "storage#objects", "items": items}))
        for item in items:
            self._put(f"gcs-object/{item['name']}", json.dumps(item))
        self._map("gcs", [(f"~prefix={model.name}(%2F|/|&|$)", f"/gcs/{model.name}.json")])

    def _list_hub(self, model: Model) -> None:
        name = f"{OWNER}/{model.name}"
        info = {"id": name, "modelId": name, "sha": COMMIT, "private": False, "gated": False}
        siblings = [{"rfilename": file.name} for file in model.files]
        self._put(
            f"hub/{model.name}/info.json", json.dumps({**info, "tags": [], "siblings": siblings})
        )
        tree = [
            {
                "type": "file",
                "oid": file.sha256[:40],
                "size": file.size,
                "path": file.name,
                "lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 134},
            }
            for file in model.files
        ]
        self._put(f"hub/{model.name}/tree.json", json.dumps(tree))

    def _put(self, name: str, text: str) -> None:
        path = self.folder / "lists" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _map(self, name: str, rules: Iterable[tuple[str, str]]) -> None:
        with (self.folder / f"{name}.map").open("a") as file:
            file.writelines(f'"{key}" {value};\n' for key, value in rules)


def _s3_path(model: Model, file: File) -> str:
    return f"/{BUCKET}/{model.name}/{file.name}"


def _gcs_item(model: Model, file: File, url: str) -> dict[str, str]:
    name = f"{model.name}/{file.name}"
    return {
        "kind": "storage#object",
        "name": name,
        "bucket": BUCKET,
        "mediaLink": f"{url}/download/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}?alt=media",
        "size": str(file.size),
        "generation": "1",
        "metageneration": "1",
        "crc32c": file.crc32c,
        "etag": file.etag,
        "updated": "2026-01-01T00:00:00.000Z",
        "timeCreated": "2026-01-01T00:00:00.000Z",
    }
