"""What a fetch holds in memory grows with what it is at, and hardly with how many files a model has."""

import asyncio
import gc
import subprocess
import sys
from pathlib import Path

from agent.manifest import RemoteFile
from tests.component.transfer.fetching import Fetching, Signer
from tests.support.faults import FaultServer, ranged

# What is handed back of a file is half of it: digest, size, and the objects around these.
MOST_BYTES_A_FILE = 600
FEW, MANY = 1000, 5000
_FETCH = """
import asyncio, sys, tracemalloc
from pathlib import Path
from agent.manifest import RemoteFile
from tests.component.transfer.fetching import Fetching, Signer
url, folder, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
files = [RemoteFile(f"d/file-{n:06}", 100, f'"v{n}"', f"d/file-{n:06}") for n in range(count)]
tracemalloc.start()
asyncio.run(Fetching(Path(folder), connections=8).fetch(files, Signer(url)))
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_for_each_further_file_is_bounded_also_when_it_is_gone_on_with(
    tmp_path: Path,
) -> None:
    with FaultServer(lambda r: ranged(b"x" * 100, r)) as server:

        def peak(count: int) -> int:
            """In a process of its own: the server is none of it."""
            command = [sys.executable, "-c", _FETCH, server.url, str(tmp_path / str(count))]
            done = subprocess.run([*command, str(count)], check=True, capture_output=True)
            return int(done.stdout)

        for _ in ("new", "gone on with"):
            assert (peak(MANY) - peak(FEW)) / (MANY - FEW) < MOST_BYTES_A_FILE
        assert len(server.requests) == FEW + MANY


async def test_nothing_of_a_fetch_waits_for_the_collector_once_it_ended(tmp_path: Path) -> None:
    """Which comes round to old objects so rarely that the next fetch finds 40 MB of a large model's taken."""
    with FaultServer(lambda r: ranged(b"x" * 100, r)) as server:
        files = [RemoteFile(f"{n}", 100, f'"v{n}"', f"{n}") for n in range(20)]
        gc.collect()
        gc.disable()
        try:
            done = await Fetching(tmp_path).fetch(files, Signer(server.url))
            assert len(done) == len(files)
            # A thread lets go of what it did last a moment after that is known here.
            await asyncio.sleep(0.2)
            left = sys.getrefcount(done[0]), sys.getrefcount(files[0])
            gc.collect()
            assert (sys.getrefcount(done[0]), sys.getrefcount(files[0])) == left
        finally:
            gc.enable()
