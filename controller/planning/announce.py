"""What a change of the Ready or Servable condition is worth telling. Pure, and silent when nothing changed: also after a restart."""

from collections.abc import Iterable, Sequence
from typing import Literal

from controller.actions import Announcement
from shared.api.meta import Condition
from shared.domain.reasons import Reason

# The ordinary course of things; any other reason asks for somebody's attention.
_NORMAL = frozenset({Reason.AVAILABLE, Reason.PROGRESSING, Reason.DELETING, Reason.VOLUMES_PENDING})
_TOLD = ("Ready", "Servable")


def announce(
    before: Iterable[Condition], after: Sequence[Condition] | None
) -> tuple[Announcement, ...]:
    old = {condition.type: condition for condition in before}
    new = {condition.type: condition for condition in after or ()}
    return tuple(
        _announcement(new[type]) for type in _TOLD if _is_news(old.get(type), new.get(type))
    )


def _is_news(old: Condition | None, new: Condition | None) -> bool:
    if new is None:
        return False
    return old is None or (old.status, old.reason) != (new.status, new.reason)


def _announcement(condition: Condition) -> Announcement:
    reason = Reason(condition.reason)
    type: Literal["Normal", "Warning"] = "Normal" if reason in _NORMAL else "Warning"
    return Announcement(type, reason, condition.message)
