"""What is still to be fetched, in order. What is known of a file while it is fetched is made when its turn comes."""

from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from agent.manifest import RemoteFile
from agent.transfer.parts import batches, split
from agent.transfer.unit import Unit
from agent.transfer.work import FileWork, PartWork


class Todo:
    """Large files part by part; small ones in crowds, many at a time. For one event loop.

    A digest that needs a file's bytes in order costs least where one connection brings them all: such files are not cut
    beforehand where there is one for each connection.
    """

    def __init__(self, files: Sequence[RemoteFile], *, part_size: int) -> None:
        self._files = files
        self._part_size = part_size
        self._begun: dict[int, FileWork] = {}
        self._units: deque[Unit] = deque()
        self._large: deque[int] = deque()
        self._crowds: deque[array[int]] = deque()
        self._one_each = False

    def plan(self, indices: Sequence[int], begun: Mapping[int, FileWork], *, width: int) -> None:
        """Fetch these files. begun: of some of them, what a former attempt left. width: connections worth while."""
        self._begun.update(begun)
        large, small = batches(
            [self._files[index].size for index in indices], part_size=self._part_size
        )
        self._one_each = len(large) >= width
        self._large.extend(indices[at] for at in large)
        self._crowds.extend(array("L", [indices[at] for at in group]) for group in small)

    def again(self, work: FileWork) -> None:
        """What is missing of a file that was begun before."""
        self._units.extend(Unit([part]) for part in self._parts(work))

    def add(self, units: Iterable[Unit]) -> None:
        self._units.extend(units)

    def units(self, most: int) -> int:
        """How many units can be taken now, up to `most`."""
        while len(self._units) < most and self._large:
            self.again(self._work(self._large.popleft()))
        return min(most, len(self._units))

    def take(self) -> Unit | None:
        return self._units.popleft() if self.units(1) else None

    def take_crowd(self) -> Unit:
        group = self._crowds.popleft()
        return Unit([part for index in group for part in self._parts(self._work(index))])

    @property
    def next_largest(self) -> int:
        """Bytes of the largest file of the next crowd."""
        return max(self._files[index].size or 0 for index in self._crowds[0])

    @property
    def crowds(self) -> int:
        return len(self._crowds)

    def __len__(self) -> int:
        """Units, crowds, and large files that are not in parts yet."""
        return len(self._units) + len(self._large) + len(self._crowds)

    def _work(self, index: int) -> FileWork:
        return self._begun.pop(index, None) or FileWork(self._files[index], index)

    def _parts(self, work: FileWork) -> list[PartWork]:
        """What is missing of a file; a finished part stands for one of which nothing is."""
        in_order = self._one_each and work.sequential and not work.done
        if work.size is None or not work.ranges or in_order:
            parts = [PartWork(work, 0, work.size)]
        else:
            missing = split(work.size, part_size=self._part_size, done=work.done)
            parts = [PartWork(work, part.start, part.end) for part in missing]
            if not parts:
                parts = [PartWork(work, 0, work.size, finished=bool(work.size))]
        work.pending = len(parts)
        return parts
