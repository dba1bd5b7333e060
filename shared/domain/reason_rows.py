"""What a row of the table of reasons says. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from shared.domain.reasons import Reason


class Course(StrEnum):
    """How it goes on without anybody's help."""

    FINE = "as it should be"
    MOVING = "under way"
    RETRIED = "tried again soon, with growing pauses"
    STALLED = "tried again every ten minutes, and at once when what it depends on changes"
    WAITING = "waits until somebody acts"
    NOTICE = "worth knowing"


class Row(NamedTuple):
    """sentence: for a status without a message of its own, so without capital and full stop.

    meaning, next, action: whole sentences. next: what the programs do. action: what a person can do; "" when nothing need be done.
    """

    reason: Reason
    course: Course
    sentence: str
    meaning: str
    next: str
    action: str = ""


@dataclass(frozen=True, slots=True)
class Chapter:
    """Rows about one kind of object."""

    title: str
    shown: str
    rows: tuple[Row, ...]
    """In the order in which a person would meet them."""


SOON = "The agent tries again by itself, first after 5 seconds, then after twice as long each time, up to 5 minutes. What is on the disk already is kept."
SLOWLY = "The agent tries again about every 10 minutes, and at once when the cache or the Secret that it names changes."
RETRY = "`kubectl localmodel retry CACHE` tries again at once."
