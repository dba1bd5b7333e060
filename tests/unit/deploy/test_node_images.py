"""The archives of images that runs of the real nodes' tests share on one machine."""

import os
import time
from pathlib import Path

from tests.support.nodes import images


def test_what_another_run_was_given_stays_and_what_nobody_wanted_for_long_goes(
    tmp_path: Path,
) -> None:
    names = ("agent-0.1.0.0123456789ab.tar", "agent-0.1.0.ba9876543210.tar")
    ours, theirs = (tmp_path / name for name in names)
    partials = [tmp_path / f".partial-{name}" for name in ("mine", "killed")]
    for folder in partials:
        folder.mkdir()
        (folder / ours.name).write_bytes(b"half")
    ours.write_bytes(b"whole")
    theirs.write_bytes(b"whole")
    long_ago = time.time() - 2 * 24 * 3600
    for path in (theirs, partials[1]):
        os.utime(path, (long_ago, long_ago))
    images.prune(tmp_path, older_than=3 * 24 * 3600)
    assert theirs.exists()
    images.prune(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([ours, partials[0]])
