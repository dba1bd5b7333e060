"""What was selected, as a published tree's manifest keeps it."""

from typing import Any

from shared.domain.patterns import EVERYTHING, Selection, Selections


def selections_to_json(selections: Selections) -> list[dict[str, Any]]:
    """One object per member; `allow` is null where all files are allowed."""
    return [
        {
            "allow": None if member.allow is None else list(member.allow),
            "ignore": list(member.ignore),
        }
        for member in selections.members
    ]


def selections_from_json(value: Any) -> Selections:
    """What `selections_to_json` wrote; anything else selects nothing, so that the tree is resolved again."""
    try:
        return Selections.union(
            Selection(
                allow=None if member["allow"] is None else tuple(member["allow"]),
                ignore=tuple(member["ignore"]),
            )
            for member in value
        )
    except (KeyError, TypeError):
        return Selections(())


EVERYTHING_SELECTED = Selections((EVERYTHING,))
