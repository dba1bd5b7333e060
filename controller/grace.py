"""How long lines of work lists that became superfluous still stay. Time is the caller's monotonic clock."""

from collections.abc import Set as AbstractSet


class Grace:
    """Begins anew with every start of the controller: rather too long than too short."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[str, dict[str, float]] = {}

    def keep(
        self, node: str, leaving: AbstractSet[str], *, now: float
    ) -> tuple[frozenset[str], float | None]:
        """(lines still in their grace time, seconds until the next one's is over); what no longer leaves is forgotten."""
        before = self._until.pop(node, {})
        until = {key: before.get(key, now + self._seconds) for key in leaving}
        if until:
            self._until[node] = until
        left = {key: end - now for key, end in until.items() if end > now}
        return frozenset(left), min(left.values(), default=None)
