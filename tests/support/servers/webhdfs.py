"""A name node and a data node that speak WebHDFS: listings here, bytes there, after a redirect."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from tests.support.servers.threaded import Fault, ThreadedApp

DELEGATION = "canary-delegation-token"


@dataclass(frozen=True)
class _File:
    content: bytes
    number: int


class WebHdfsServer:
    """`with WebHdfsServer() as hdfs:` — `hdfs.url` is the name node; `hdfs.put("/models/a", b"…")`.

    crc: computes CRC-32C for clusters with composite checksums; None = the default, MD5 of MD5 of CRCs. Below /private only
    who has the delegation token. listed: what a folder's listing says instead, by path. ignores_offset: the data node
    sends everything, whatever is asked for.
    """

    def __init__(self, *, standby: bool = False) -> None:
        self.names = ThreadedApp("namenode")
        self.data = ThreadedApp("datanode")
        self.standby = standby
        self.composite = False
        self.ignores_offset = False
        self.lies: dict[str, bytes] = {}
        self.listed: dict[str, list[str]] = {}
        self._files: dict[str, _File] = {}
        self._count = 0
        self.names.app.router.add_get("/webhdfs/v1{path:.*}", self._operate)
        self.data.app.router.add_get("/webhdfs/v1{path:.*}", self._open)

    def __enter__(self) -> WebHdfsServer:
        self.names.start()
        self.data.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.names.stop()
        self.data.stop()

    @property
    def url(self) -> str:
        return self.names.url

    @property
    def place(self) -> str:
        """Host and port, as in a URI."""
        return self.url.removeprefix("http://")

    def fail(self, fault: Fault | None) -> None:
        self.names.fault = fault

    def put(self, path: str, content: bytes) -> None:
        """A new file each time, as HDFS replaces them."""
        self._count += 1
        self._files[path] = _File(content, self._count)

    def remove(self, path: str) -> None:
        del self._files[path]

    def fill(self, folder: str, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            self.put(f"{folder}/{name}", content)

    async def _operate(self, request: web.Request) -> web.Response:
        path = request.match_info["path"].rstrip("/") or "/"
        if self.standby:
            return _exception(403, "StandbyException")
        if path.startswith("/private") and request.query.get("delegation") != DELEGATION:
            return _exception(403, "AccessControlException")
        match request.query.get("op"):
            case "GETFILESTATUS":
                found = self._status(path, "")
                return (
                    _exception(404, "FileNotFoundException")
                    if found is None
                    else web.json_response({"FileStatus": found})
                )
            case "LISTSTATUS":
                return self._list(path)
            case "GETFILECHECKSUM":
                return self._checksum(path)
            case "OPEN" if path in self._files:
                query = request.rel_url.raw_query_string
                return web.Response(
                    status=307,
                    headers={
                        "Location": f"{self.data.url}{request.rel_url.raw_path}?{query}&namenoderpcaddress=nn"
                    },
                )
            case _:
                return _exception(404, "FileNotFoundException")

    def _list(self, path: str) -> web.Response:
        if self._status(path, "") is None:
            return _exception(404, "FileNotFoundException")
        below = path.rstrip("/") + "/"
        names = sorted(
            {one[len(below) :].partition("/")[0] for one in self._files if one.startswith(below)}
        )
        entries = [self._status(f"{below}{name}", name) for name in names]
        for name in self.listed.get(path, []):
            entries.append({**_plain(name), "type": "DIRECTORY" if name.endswith("/") else "FILE"})
        return web.json_response({"FileStatuses": {"FileStatus": entries}})

    def _status(self, path: str, suffix: str) -> dict[str, object] | None:
        file = self._files.get(path)
        if file is not None:
            return {
                **_plain(suffix),
                "type": "FILE",
                "length": len(file.content),
                "fileId": file.number,
                "modificationTime": 1_700_000_000_000 + file.number,
            }
        if any(one.startswith(path.rstrip("/") + "/") for one in self._files):
            return {**_plain(suffix), "type": "DIRECTORY"}
        return None

    def _checksum(self, path: str) -> web.Response:
        from awscrt import checksums

        if self.composite:
            value = checksums.crc32c(self._files[path].content)
            said = {
                "algorithm": "COMPOSITE-CRC32C",
                "bytes": struct.pack(">I", value).hex() + "00",
                "length": 5,
            }
        else:
            said = {"algorithm": "MD5-of-0MD5-of-512CRC32C", "bytes": "00" * 28, "length": 28}
        return web.json_response({"FileChecksum": said})

    async def _open(self, request: web.Request) -> web.Response:
        """A data node knows offset and length, and no Range."""
        if request.headers.get("Authorization"):
            return web.Response(status=400)
        path = request.match_info["path"]
        content = self.lies.get(path, self._files[path].content)
        if not self.ignores_offset:
            start = int(request.query.get("offset", "0"))
            length = request.query.get("length")
            content = content[start : None if length is None else start + int(length)]
        return web.Response(body=content, content_type="application/octet-stream")


def _plain(suffix: str) -> dict[str, object]:
    return {"pathSuffix": suffix.rstrip("/"), "length": 0, "fileId": 0, "modificationTime": 0}


def _exception(status: int, kind: str) -> web.Response:
    said = {"exception": kind, "javaClassName": f"org.apache.hadoop.{kind}", "message": "no"}
    return web.json_response({"RemoteException": said}, status=status)
