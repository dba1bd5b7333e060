import itertools
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from agent.manifest import RemoteFile
from agent.policy import Endpoint
from agent.transfer.journal import Claim, Journal
from agent.transfer.parts import Range, batches, split
from agent.transfer.work import FileWork, PartWork

RANGES = st.lists(st.integers(0, 200), max_size=12, unique=True).map(
    lambda cuts: [Range(a, b) for a, b in zip(*[iter(sorted(cuts))] * 2, strict=False)]
)


@given(st.integers(0, 200), st.integers(1, 50), RANGES)
def test_what_is_missing_and_what_is_there_make_up_the_file_without_overlap(
    size: int, part_size: int, done: list[Range]
) -> None:
    done = [have for have in done if have.end <= size]
    parts = split(size, part_size=part_size, done=done)
    covered = sorted([*parts, *(have for have in done if have.size)])
    assert [offset for part in covered for offset in range(part.start, part.end)] == list(
        range(size)
    )
    assert all(0 < part.size <= part_size for part in parts)
    assert parts == sorted(parts)


@given(st.lists(st.one_of(st.none(), st.integers(0, 1 << 28)), max_size=200))
def test_every_file_is_fetched_alone_or_in_exactly_one_batch(sizes: list[int | None]) -> None:
    large, groups = batches(sizes, part_size=64 << 20)
    batched = [index for group in groups for index in group]
    assert sorted([*large, *batched]) == list(range(len(sizes)))
    assert all(groups)


def taken(part: PartWork, most: int) -> int:
    """As a thread does: when a request has ended, the next one is sent."""
    room = part.take(most) if part.asked is not None else 0
    if room == 0:
        part.ask()
        part.divisible = True
        room = part.take(most)
    return room


@given(
    st.integers(1, 64 << 20),
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60),
    st.integers(8, 32).map(lambda n: n * (64 << 10)),
)
def test_however_parts_are_cut_while_bytes_come_all_are_received_once(
    size: int, steps: list[tuple[int, bool]], most: int
) -> None:
    """A step: one of the parts receives or, where that is allowed, gives half away."""
    work = FileWork(RemoteFile("f", size, "", "f"))
    parts = [PartWork(work, 0, size)]
    parts[0].ask()
    parts[0].divisible = True
    received = []
    for which, cuts in [*steps, *((n, False) for n in range(10))]:
        part = parts[which % len(parts)]
        if cuts:
            rest = part.cut(in_vain=which % 2 == 0)
            parts += [rest] if rest is not None else []
        elif room := taken(part, most):
            # Meanwhile the rest may be given away, but nothing of what was taken.
            other = part.cut(in_vain=True)
            parts += [other] if other is not None else []
            received.append((part.at, part.at + room))
            part.at += room
    for part in parts:
        while room := taken(part, most):
            received.append((part.at, part.at + room))
            part.at += room
    received.sort()
    assert received[0][0] == 0
    assert received[-1][1] == size
    assert all(left[1] == right[0] for left, right in itertools.pairwise(received))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.integers(1, 9)), max_size=20),
    st.integers(0, 2000),
)
def test_a_journal_cut_anywhere_claims_only_what_was_claimed(
    records: list[tuple[str, int, int]], cut: int
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        journal = Journal(folder)
        made: dict[str, set[Claim]] = {}
        for file, start, size in records:
            claim = Claim(Range(start, start + size), start * 1000 + size)
            journal.add(file, claim)
            made.setdefault(file, set()).add(claim)
        journal.close()
        log = folder / "parts.log"
        log.write_bytes(log.read_bytes()[:cut])
        after = Journal(folder)
        for file in "abc":
            claims = after.claims(file)
            assert set(claims) <= made.get(file, set())
            for left, right in itertools.pairwise(claims):
                assert left.range.end <= right.range.start
        after.close()


PIECES = [
    "/",
    "?",
    "#",
    "@",
    ":",
    ":80",
    ":x",
    "[::1]",
    "a",
    "B.c",
    " ",
    "\t",
    "é",
    "%20",
    "&=",
    "\\",
]


@given(st.sampled_from(["http", "HTTPS"]), st.lists(st.sampled_from(PIECES), max_size=8))
def test_where_a_url_leads_is_where_the_standard_library_says(
    scheme: str, pieces: list[str]
) -> None:
    """It is taken apart by a short way, which must not be another one than that of any check."""
    url = f"{scheme}://{''.join(pieces)}"

    def expected() -> tuple[str, str | None, int | None] | None:
        try:
            parts = urlsplit(url)
            known = {"http": 80, "https": 443}
            return (parts.scheme, parts.hostname, parts.port or known[parts.scheme])
        except ValueError:
            return None

    def found() -> tuple[str, str | None, int | None] | None:
        try:
            return Endpoint.of(url)
        except ValueError:
            return None

    wanted = expected()
    assert found() == (wanted if wanted and wanted[1] else None)
