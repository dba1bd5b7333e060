"""A digest that needs a file's bytes in order is computed while they come; the file is not read again afterwards."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.manifest import Algorithm, Strength
from tests.component.transfer.fetching import PART, Fetching, Signer, remote
from tests.support.faults import FaultServer, ranged


class Reads:
    """Bytes that this process reads of files below a folder."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.bytes = 0
        self._folder = folder
        for name in ("read", "pread", "preadv"):
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(fd: int, *args: Any) -> Any:
            got = call(fd, *args)
            if self._folder in Path(f"/proc/self/fd/{fd}").readlink().parents:
                self.bytes += got if isinstance(got, int) else len(got)
            return got

        return instead


@pytest.mark.parametrize(
    ("size", "part_size", "read"),
    [
        pytest.param(8 * PART, 8 * PART, 0, id="in one part"),
        pytest.param(20_000, PART, 0, id="small"),
        # Once, close behind what comes: it is in the page cache still.
        pytest.param(8 * PART, PART, 8 * PART, id="in several parts"),
    ],
)
async def test_a_file_with_a_sha256_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, part_size: int, read: int
) -> None:
    content = os.urandom(size)
    fetching = Fetching(tmp_path, connections=1)
    fetching.part_size = part_size
    with FaultServer(lambda request: ranged(content, request)) as server:
        reads = Reads(monkeypatch, fetching.tree)
        (file,) = await fetching.fetch([remote("f", content, Algorithm.SHA256)], Signer(server.url))
    assert reads.bytes == read
    assert file.verified_by is Strength.SHA256
    assert fetching.content("f") == content
