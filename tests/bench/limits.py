"""`python -IS limits.py write FILE BYTES` and `… read URL…`: what disk and server allow, with next to no client.

write: O_DIRECT in blocks of 8 MiB, one after the other, then fsync. read: two connections that throw away what comes.
"""

import http.client
import mmap
import os
import ssl
import sys
import threading
from urllib.parse import urlsplit

_BLOCK = 8 << 20
_STREAMS = 2


def write(path: str, size: int) -> None:
    block = mmap.mmap(-1, _BLOCK)
    block.write(os.urandom(_BLOCK))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT)
    for _ in range(0, size, _BLOCK):
        os.write(fd, block)
    os.fsync(fd)
    os.close(fd)


def read(urls: list[str]) -> None:
    """Every file once; a single one in two halves."""
    todo = [(url, "") for url in reversed(urls)]
    if len(urls) == 1:
        half = _size(urls[0]) // 2
        todo = [(urls[0], f"bytes=0-{half - 1}"), (urls[0], f"bytes={half}-")]
    threads = [threading.Thread(target=_drain, args=(todo,)) for _ in range(_STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _drain(todo: list[tuple[str, str]]) -> None:
    buffer = memoryview(bytearray(1 << 20))
    connection = None
    while todo:
        try:
            url, span = todo.pop()
        except IndexError:
            return
        connection = connection or _connect(url)
        connection.request("GET", urlsplit(url).path, headers={"Range": span} if span else {})
        answer = connection.getresponse()
        while answer.readinto(buffer):
            pass


def _size(url: str) -> int:
    connection = _connect(url)
    connection.request("HEAD", urlsplit(url).path)
    return int(connection.getresponse().headers["Content-Length"])


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.netloc, context=ssl.create_default_context())
    return http.client.HTTPConnection(parts.netloc)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], int(sys.argv[3]))
    else:
        read(sys.argv[2:])
