"""A copy whose publication failed is tried again without fetching anything again."""

import errno
import os
from pathlib import Path

import pytest

from agent.cli.pull import PullOptions, wanted_from
from agent.copying.copy import Have
from agent.copying.progress import CopyWatch
from agent.errors import FetchError
from agent.policy import SourcePolicy
from agent.storage.disk import Disk
from shared.domain.storage_key import storage_key
from tests.component.agent.copies import copier
from tests.component.agent.terminal import files_below
from tests.support.disks import SteppingDisk
from tests.support.servers.web import WebServer

BIG = os.urandom(3_000_000)
UNRESTRICTED = SourcePolicy.unrestricted()


def refusing_disk(key: str, code: int) -> Disk:
    """Fails once, when the manifest of what is to be published is written."""
    left = [code]

    def before(step: str, *args: object) -> None:
        if step == "create" and left and f"{key}.next" in str(args[1]):
            raise OSError(left.pop(), os.strerror(code))

    return SteppingDisk(before)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("giver_goes", [False, True])
async def test_a_publication_that_fails_once_moves_no_byte_again(
    web: WebServer, root: Path, code: int, giver_goes: bool
) -> None:
    """The server states no digest, so only what was fetched can be found to be what another model has."""
    web.put("giver.bin", BIG)
    web.put("again.bin", BIG)
    given, wanted = (
        wanted_from(PullOptions(f"{web.url}/{name}.bin", root)) for name in ("giver", "again")
    )
    async with copier(root, UNRESTRICTED, disk=refusing_disk(wanted.storage_key, code)) as (
        store,
        copies,
    ):
        await copies.copy(given, CopyWatch(), Have())
        first = CopyWatch()
        with pytest.raises(FetchError):
            await copies.copy(wanted, first, Have())
        assert (first.moved, first.shared) == (len(BIG), len(BIG))
        if giver_goes:
            store.evict(given.storage_key)
        second = CopyWatch()
        await copies.copy(wanted, second, Have())
        assert second.moved == 0
        assert second.done == len(BIG)
        assert store.inspect(wanted.storage_key) == ()
    assert files_below(root / "models" / storage_key(wanted.uri)) == {"again.bin": BIG}


async def test_what_was_changed_meanwhile_is_fetched(web: WebServer, root: Path) -> None:
    web.put("giver.bin", BIG)
    web.put("again.bin", BIG)
    given, wanted = (
        wanted_from(PullOptions(f"{web.url}/{name}.bin", root)) for name in ("giver", "again")
    )
    async with copier(root, UNRESTRICTED, disk=refusing_disk(wanted.storage_key, errno.EIO)) as (
        _,
        copies,
    ):
        await copies.copy(given, CopyWatch(), Have())
        with pytest.raises(FetchError):
            await copies.copy(wanted, CopyWatch(), Have())
        published = root / "models" / given.storage_key / "giver.bin"
        with published.open("r+b") as file:
            file.write(b"tampered")
        watch = CopyWatch()
        await copies.copy(wanted, watch, Have())
        assert watch.moved == len(BIG)
    assert files_below(root / "models" / wanted.storage_key) == {"again.bin": BIG}
