from datetime import timedelta

import pytest

from agent.planning.admission import Space, kept_free, refusal
from agent.planning.retry import Failure, RetryPolicy, failed, is_due
from tests.unit.agent.builders import NOW, line, not_found, unreachable, wanted

POLICY = RetryPolicy(base=5, cap=300, stalled=600)
PRINT = wanted().fingerprint
GIB = 1 << 30


def attempt(previous: Failure | None = None, **more: object) -> Failure:
    values: dict[str, object] = {"error": unreachable(), "fingerprint": PRINT, **more}
    return failed(
        values.pop("error"),  # type: ignore[arg-type]
        previous,
        now=NOW,
        jitter=0.5,
        policy=POLICY,
        **values,  # type: ignore[arg-type]
    )


def test_waits_double_until_the_cap() -> None:
    waits, last = [], None
    for _ in range(9):
        last = attempt(last)
        waits.append((last.next_try - NOW).total_seconds())
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert last is not None
    assert last.attempts == 9


def test_a_stalled_copy_waits_long_from_the_start() -> None:
    assert attempt(error=not_found()).next_try == NOW + timedelta(seconds=600)


@pytest.mark.parametrize(("asked", "waits"), [(90, 90), (1, 5), (10**6, 3600)])
def test_a_source_may_ask_for_a_pause_within_reason(asked: float, waits: float) -> None:
    assert (attempt(error=unreachable(asked)).next_try - NOW).total_seconds() == waits


def test_attempts_count_from_the_last_change_of_the_work_list() -> None:
    many = attempt(attempt(attempt()))
    assert many.attempts == 3
    assert attempt(many, fingerprint=wanted(line(retry="again")).fingerprint).attempts == 1


def test_attempts_go_on_after_a_restart() -> None:
    assert attempt(earlier_attempts=6).attempts == 7


def test_a_change_makes_a_failure_due() -> None:
    waiting = attempt(error=not_found())
    assert not is_due(waiting, PRINT, now=NOW, policy=POLICY)
    other = wanted(line(account="other")).fingerprint
    assert is_due(waiting, other, now=NOW, policy=POLICY)
    assert is_due(waiting, PRINT, now=waiting.next_try, policy=POLICY)


def space(free: int, **in_flight: int) -> Space:
    return Space(capacity=100 * GIB, free=free, kept_free=5 * GIB, in_flight=in_flight)


def test_a_copy_must_fit_beside_the_watermark_and_all_copies_in_flight() -> None:
    assert kept_free(100 * GIB, 5) == 5 * GIB
    assert space(15 * GIB).has(10 * GIB)
    assert not space(15 * GIB).has(10 * GIB + 1)
    assert not space(20 * GIB, other=6 * GIB).has(10 * GIB)


def test_nothing_to_write_always_fits() -> None:
    assert space(0, other=GIB).has(0)


def test_a_refusal_says_need_free_promised_and_what_holds_the_space() -> None:
    holders = {"llama": 40 * GIB, "bert": GIB, "qwen": 20 * GIB, "phi": 2 * GIB}
    assert refusal(10 * GIB, space(12 * GIB, other=4 * GIB), holders=holders) == (
        "needs 10.0 GiB, 3.0 GiB can be used; 12.0 GiB of 100 GiB are free, 5.0 GiB stay free; "
        "4.0 GiB are promised to copies in flight; "
        "held by llama 40.0 GiB, qwen 20.0 GiB, phi 2.0 GiB and 1 more"
    )
