import hashlib

import pytest

from agent.manifest import Algorithm, Digest, RemoteFile
from agent.transfer.parts import Range
from agent.transfer.work import FileWork, PartWork

MIB = 1 << 20


@pytest.mark.parametrize(
    ("rate", "asked"), [(MIB, 8 * MIB), (50 * MIB, 100 * MIB), (9000 * MIB, 256 * MIB)]
)
def test_a_request_asks_for_what_its_connection_brings_in_two_seconds(
    rate: int, asked: int
) -> None:
    work = FileWork(RemoteFile("f", 1 << 30, "", "f"))
    work.paced(rate, 1.0)
    part = PartWork(work, 0, work.size)
    assert part.ask()
    assert part.asked == asked


def test_what_is_left_of_a_part_that_was_cut_is_still_hashed_as_it_comes() -> None:
    content = bytes(range(256)) * (64 << 10)
    stated = Digest(Algorithm.SHA256, hashlib.sha256(content).hexdigest())
    work = FileWork(RemoteFile("f", len(content), "", "f", (stated,)))
    part = PartWork(work, 0, work.size)
    part.ask()
    part.divisible = True
    part.take(MIB)
    rest = part.cut(in_vain=True)
    assert rest is not None
    assert rest.whole is None
    assert work.hashes_itself
    for hasher in part.hashers:
        hasher.update(content[: part.end])
    part.at = part.end or 0
    part.claim()
    part.finish()
    assert not work.hashes_itself
    assert work.hashed == part.end == rest.start
    assert work.whole is not None
    assert work.whole.hexdigest() == hashlib.sha256(content[: part.end]).hexdigest()


def test_a_long_part_leaves_ranges_of_which_a_bad_byte_costs_one() -> None:
    work = FileWork(RemoteFile("f", 140 * MIB, "", "f"))
    part = PartWork(work, 0, work.size)
    for at in [*range(8 * MIB, 140 * MIB, 8 * MIB), 140 * MIB]:
        part.at = at
        part.claim()
    part.finish()
    assert sorted(work.done) == [
        Range(0, 64 * MIB),
        Range(64 * MIB, 128 * MIB),
        Range(128 * MIB, 140 * MIB),
    ]
