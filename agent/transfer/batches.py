"""Which files a crowd still has to bring, unit by unit, and what the journal is to say of those that came."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.manifest import Digest
from agent.transfer.files import disk_errors
from agent.transfer.journal import Claim, Journal
from agent.transfer.unit import Unit
from agent.transfer.work import PartWork

# A file, and what is to be remembered of it.
Came = tuple[str, Claim, Digest | None]


@dataclass(slots=True, eq=False)
class _Batch:
    unit: Unit
    left: int
    came: list[Came] = field(default_factory=list)


class Batches:
    """For one thread. ended: told of each unit that is over, with what came of it in the journal."""

    def __init__(self, journal: Journal, ended: Callable[[Unit], None]) -> None:
        self._journal = journal
        self._ended = ended
        self._out: dict[PartWork, _Batch] = {}

    def add(self, unit: Unit, parts: Sequence[PartWork]) -> None:
        """parts: those of the unit that are to be brought."""
        self._out.update(dict.fromkeys(parts, _Batch(unit, len(parts))))
        if not parts:
            self._ended(unit)

    def unit_of(self, part: PartWork) -> Unit:
        return self._out[part].unit

    def over(self, part: PartWork, came: Came | None = None) -> None:
        """The file is there, or left to others (None); what is said first counts. Raises FetchError."""
        batch = self._out.pop(part, None)
        if batch is None:
            return
        batch.left -= 1
        if came is not None:
            batch.came.append(came)
        if batch.left == 0:
            self._remember(batch)
            self._ended(batch.unit)

    def close(self) -> None:
        """Nothing more comes. Raises FetchError."""
        for batch in dict.fromkeys(self._out.values()):
            self._remember(batch)
        self._out.clear()

    def _remember(self, batch: _Batch) -> None:
        with disk_errors("journal"):
            self._journal.add_all(batch.came)
