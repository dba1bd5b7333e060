"""Which files of a model are wanted: allow and ignore patterns, and their union over several caches."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Selection:
    """Shell patterns on the path inside the model; a pattern that ends in `/` means the whole folder.

    allow: at least one must match; None = all files. ignore: none may match.
    """

    allow: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()

    def selects(self, path: str) -> bool:
        if self.allow is not None and not _any_matches(self.allow, path):
            return False
        return not _any_matches(self.ignore, path)

    @property
    def is_everything(self) -> bool:
        return self.allow is None and not self.ignore


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class Selections:
    """What several caches of one URI want together: a file is wanted when one of them selects it."""

    members: tuple[Selection, ...]

    @classmethod
    def union(cls, selections: Iterable[Selection]) -> "Selections":
        """Canonical: sorted, without duplicates; one that wants everything absorbs the rest."""
        members = set(selections)
        if any(member.is_everything for member in members):
            return cls((EVERYTHING,))
        return cls(
            tuple(sorted(members, key=lambda s: (s.allow is not None, s.allow or (), s.ignore)))
        )

    def selects(self, path: str) -> bool:
        return any(member.selects(path) for member in self.members)


def _any_matches(patterns: tuple[str, ...], path: str) -> bool:
    return any(
        fnmatchcase(path, pattern + "*" if pattern.endswith("/") else pattern)
        for pattern in patterns
    )
