"""Waiting times between tries."""

import pytest

from shared.domain.backoff import delay, spread


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (1_000_000, 300), (0, 2), (-1, 2)],
)
def test_delays_double_up_to_the_cap(attempt: int, seconds: float) -> None:
    assert delay(attempt, base=2, cap=300, jitter=0.5) == pytest.approx(seconds)


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 80), (0.5, 100), (0.999999, 120)])
def test_waiters_spread_by_a_fifth(jitter: float, seconds: float) -> None:
    assert spread(100, jitter=jitter) == pytest.approx(seconds, rel=1e-5)
