"""What a change of the Ready condition is worth telling. Pure, and silent when nothing changed: also after a restart."""

from collections.abc import Iterable, Sequence

from controller.actions import Announcement
from shared.api.meta import Condition
from shared.domain.reasons import Reason

# The ordinary course of things; any other reason asks for somebody's attention.
_NORMAL = frozenset({Reason.AVAILABLE, Reason.PROGRESSING, Reason.DELETING})


def announce(
    before: Iterable[Condition], after: Sequence[Condition] | None
) -> tuple[Announcement, ...]:
    old, new = _ready(before), _ready(after or ())
    if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
        return ()
    reason = Reason(new.reason)
    return (Announcement("Normal" if reason in _NORMAL else "Warning", reason, new.message),)


def _ready(conditions: Iterable[Condition]) -> Condition | None:
    return next((condition for condition in conditions if condition.type == "Ready"), None)
