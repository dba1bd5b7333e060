"""Conditions change through one rule: the transition time moves only when the status does."""

from collections.abc import Sequence
from datetime import datetime

from shared.api.meta import Condition, ConditionStatus
from shared.domain.reasons import Reason

# The API server refuses longer messages.
_MAX_MESSAGE = 32768


def set_condition(
    have: Sequence[Condition],
    *,
    type: str,
    status: ConditionStatus,
    reason: Reason,
    message: str,
    now: datetime,
    generation: int | None,
) -> tuple[Condition, ...]:
    """The conditions with this one in place, sorted by type."""
    old = next((c for c in have if c.type == type), None)
    since = old.last_transition_time if old is not None and old.status == status else now
    new = Condition(
        type=type,
        status=status,
        reason=reason.value,
        message=message[:_MAX_MESSAGE],
        last_transition_time=since,
        observed_generation=generation,
    )
    return tuple(sorted([*(c for c in have if c.type != type), new], key=lambda c: c.type))
