"""`python -IS limits.py write FILE BYTES` and `… read STREAMS URL…`: what disk and server allow, with next to no client.

write: O_DIRECT in blocks of 8 MiB, one after the other, then fsync. read: connections that throw away what comes.
"""

import http.client
import mmap
import os
import ssl
import sys
import threading
from urllib.parse import urlsplit

_BLOCK = 8 << 20


def write(path: str, size: int) -> None:
    block = mmap.mmap(-1, _BLOCK)
    block.write(os.urandom(_BLOCK))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DIRECT)
    for _ in range(0, size, _BLOCK):
        os.write(fd, block)
    os.fsync(fd)
    os.close(fd)


def read(streams: int, urls: list[str]) -> None:
    """Every file once; a single one in as many ranges as there are streams."""
    todo = [(url, "") for url in reversed(urls)]
    if len(urls) == 1:
        size = _size(urls[0])
        cuts = [size * n // streams for n in range(streams + 1)]
        todo = [(urls[0], f"bytes={cuts[n]}-{cuts[n + 1] - 1}") for n in range(streams)]
    threads = [threading.Thread(target=_drain, args=(todo,)) for _ in range(streams)]
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
        read(int(sys.argv[2]), sys.argv[3:])
