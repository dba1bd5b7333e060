"""The one table of reasons: what each means, how it goes on, what a person can do. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from shared.domain.reason_rows import Chapter, Course, Row
from shared.domain.reasons import Reason
from shared.domain.reasons_of_caches import INSTALLATION, PLACEMENT, SERVING
from shared.domain.reasons_of_copies import MOVING, RETRIED, STALLED

CHAPTERS: Final[tuple[Chapter, ...]] = (
    PLACEMENT,
    MOVING,
    RETRIED,
    STALLED,
    SERVING,
    INSTALLATION,
)

TABLE: Final[Mapping[Reason, Row]] = MappingProxyType(
    {row.reason: row for chapter in CHAPTERS for row in chapter.rows}
)


def row(reason: str | None) -> Row | None:
    """None for a reason that an agent of another version may have, and we do not."""
    return _BY_NAME.get(reason or "")


def with_course(*courses: Course) -> frozenset[Reason]:
    return frozenset(reason for reason, one in TABLE.items() if one.course in courses)


_BY_NAME: Final = {reason.value: one for reason, one in TABLE.items()}
