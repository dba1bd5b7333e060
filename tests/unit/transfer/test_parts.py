import pytest

from agent.transfer.parts import Range, batches, split

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size", "done", "expected"),
    [
        (0, [], []),
        (10, [], [Range(0, 10)]),
        (25, [], [Range(0, 10), Range(10, 20), Range(20, 25)]),
        (25, [Range(0, 25)], []),
        (25, [Range(4, 6)], [Range(0, 4), Range(6, 10), Range(10, 20), Range(20, 25)]),
        (25, [Range(10, 20), Range(0, 3)], [Range(3, 10), Range(20, 25)]),
    ],
)
def test_a_file_is_cut_at_multiples_of_the_part_size_around_what_is_there(
    size: int, done: list[Range], expected: list[Range]
) -> None:
    assert split(size, part_size=10, done=done) == expected


def test_large_files_come_first_and_small_ones_in_batches() -> None:
    sizes = [3 * MIB, 10, 9 * MIB, 20]
    assert batches(sizes, part_size=64 * MIB) == ([2, 0], [[1, 3]])


def test_a_file_of_unknown_size_counts_as_the_largest() -> None:
    assert batches([9 * MIB, None], part_size=64 * MIB) == ([1, 0], [])


def test_batches_of_small_files_are_bounded_in_number_and_bytes() -> None:
    large, groups = batches([1] * 640 + [MIB] * 20, part_size=64 * MIB)
    assert large == []
    assert [len(group) for group in groups] == [16, 64, 256, 256, 48 + 7, 8, 5]
    assert [index for group in groups for index in group] == list(range(660))
