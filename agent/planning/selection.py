"""What a copy asks of its source: the URI, the files, and how a published tree's manifest keeps that."""

from dataclasses import replace
from typing import Any

from agent.errors import Stalled
from agent.manifest import Manifest
from shared.domain.patterns import Selection, Selections
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri


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


def parse_uri(text: str) -> SourceUri:
    """Stalled instead of ValueError."""
    try:
        return SourceUri.parse(text)
    except ValueError as error:
        raise Stalled(Reason.INVALID_SOURCE, f"sourceModelUri {error}") from error


def select(manifest: Manifest, selections: Selections) -> Manifest:
    """The manifest with the files that somebody asked for; Stalled when there is none."""
    files = tuple(file for file in manifest.files if selections.selects(file.path))
    if not files:
        raise nothing_selected(len(manifest.files))
    return replace(manifest, files=files)


def nothing_selected(count: int) -> Stalled:
    """The patterns leave no file."""
    return Stalled(Reason.SOURCE_EMPTY, f"none of the source's {count} files matches the patterns")
