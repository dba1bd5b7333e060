"""Conditions: one entry a type, and a transition time that moves with the status alone."""

from datetime import UTC, datetime, timedelta

from shared.api.meta import Condition, ConditionStatus
from shared.domain.conditions import set_condition
from shared.domain.reasons import Reason

THEN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = THEN + timedelta(hours=1)


def ready(
    have: tuple[Condition, ...],
    status: ConditionStatus,
    *,
    at: datetime = NOW,
    message: str = "",
    type: str = "Ready",
) -> tuple[Condition, ...]:
    return set_condition(
        have,
        type=type,
        status=status,
        reason=Reason.AVAILABLE,
        message=message,
        now=at,
        generation=3,
    )


def test_a_new_condition_begins_now() -> None:
    (condition,) = ready((), "True")
    assert condition.last_transition_time == NOW
    assert (condition.reason, condition.observed_generation) == ("Available", 3)


def test_a_new_message_alone_does_not_move_the_time() -> None:
    (condition,) = ready(ready((), "True", at=THEN), "True", message="4 of 4")
    assert condition.last_transition_time == THEN
    assert condition.message == "4 of 4"


def test_a_changed_status_moves_the_time() -> None:
    (condition,) = ready(ready((), "True", at=THEN), "Unknown")
    assert condition.last_transition_time == NOW


def test_types_stay_sorted_and_others_untouched() -> None:
    stalled = ready((), "False", type="Stalled", at=THEN)
    both = ready(stalled, "True")
    assert [c.type for c in both] == ["Ready", "Stalled"]
    assert both[1] == stalled[0]


def test_a_message_longer_than_the_api_server_takes_is_cut() -> None:
    (condition,) = ready((), "False", message="x" * 40_000)
    assert len(condition.message) == 32_768
