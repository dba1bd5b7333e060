"""Quantities: what Kubernetes reads, we read to the same number of bytes."""

import pytest

from shared.domain.quantity import brief_quantity, format_quantity, human_bytes, parse_quantity

MAX = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (0, 0),
        (1024, 1024),
        ("0", 0),
        ("-0", 0),
        ("-0.0Gi", 0),
        ("10Gi", 10 * 2**30),
        ("+10Gi", 10 * 2**30),
        ("1.7T", 1_700_000_000_000),
        ("1.5Ki", 1536),
        (".5Mi", 2**19),
        ("5.Ki", 5120),
        ("1Ti", 2**40),
        ("2Pi", 2**51),
        ("1Ei", 2**60),
        ("1k", 1000),
        ("1M", 10**6),
        ("1G", 10**9),
        ("1P", 10**15),
        ("1E", 10**18),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1e+3", 1000),
        ("2500e-3", 3),
        ("12e06", 12_000_000),
        ("1n", 1),
        ("1u", 1),
        ("1m", 1),
        ("1001m", 2),
        ("1000m", 1),
        ("0.1Ki", 103),
        ("1.0000000000000000000000000000000000000000001", 2),
        ("9223372036854775807", MAX),
        ("9223372036854775808", MAX),
        ("100Ei", MAX),
        ("1e999999999999", MAX),
        ("1e-999999999999", 1),
        ("0e999999999999", 0),
    ],
)
def test_quantity_is_whole_bytes_rounded_up(text: int | str, count: int) -> None:
    assert parse_quantity(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "", " ", ".", "Gi", "10 Gi", " 10Gi", "10Gi ", "10gi", "10KI", "10K", "10GB", "10GiB", "1,5Gi", "1_000", "0x10",
        "1e", "1e+", "1e1.5", "e3", "1..5", "1.5.0", "--1", "+-1", "ten", "NaN", "inf", "١Gi", "10Gi\n", "1" * 65,
    ],
)  # fmt: skip
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity such as 10Gi"):
        parse_quantity(text)


@pytest.mark.parametrize("value", [True, False, None, float("nan"), [1]])
def test_only_text_and_numbers_are_quantities(value: object) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(value)  # type: ignore[arg-type]  # objects may hold anything


@pytest.mark.parametrize("value", [-1, "-1", "-1Gi", "-0.001", "-1e-9", "-1n"])
def test_negative_quantities_are_refused(value: int | str) -> None:
    with pytest.raises(ValueError, match="is negative"):
        parse_quantity(value)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (1, "1"),
        (1000, "1000"),
        (1024, "1Ki"),
        (1536, "1536"),
        (10 * 2**30, "10Gi"),
        (1536 * 2**20, "1536Mi"),
        (2**60, "1Ei"),
        (MAX, str(MAX)),
    ],
)
def test_the_canonical_form_loses_nothing(count: int, text: str) -> None:
    assert format_quantity(count) == text


@pytest.mark.parametrize(
    ("count", "message", "brief"),
    [
        (0, "0 B", "0"),
        (1023, "1023 B", "1023"),
        (1024, "1.0 KiB", "1.0Ki"),
        (1536 * 2**20, "1.5 GiB", "1.5Gi"),
        (200 * 2**30, "200 GiB", "200Gi"),
        (int(99.96 * 2**20), "100 MiB", "100Mi"),
        (2**30 - 1, "1.0 GiB", "1.0Gi"),
        (2**40, "1.0 TiB", "1.0Ti"),
        (2**60, "1.0 EiB", "1.0Ei"),
    ],
)
def test_sizes_for_people_have_about_three_digits(count: int, message: str, brief: str) -> None:
    assert human_bytes(count) == message
    assert brief_quantity(count) == brief
