import pytest

from agent.manifest import RemoteFile
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
