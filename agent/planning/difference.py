"""How much two statuses differ, which decides whether and how soon the newer one is written."""

from enum import IntEnum

from shared.api.node import LocalModelNodeStatus, NodeStorage


class Change(IntEnum):
    """How much two statuses differ: not at all, only in figures that move, or in what they say."""

    NONE = 0
    PROGRESS = 1
    STATE = 2


def change(old: LocalModelNodeStatus | None, new: LocalModelNodeStatus) -> Change:
    """Free space that moved by less than a hundredth of the disk is no difference: other programs write there too."""
    if old is None or _said(old) != _said(new):
        return Change.STATE
    if old.models != new.models or _disk_moved(old.storage, new.storage):
        return Change.PROGRESS
    return Change.NONE


def _said(status: LocalModelNodeStatus) -> LocalModelNodeStatus:
    """The status without the figures that move by themselves."""
    quiet = {"bytes_done": None, "bytes_per_second": None}
    return status.model_copy(
        update={
            "models": tuple(model.model_copy(update=quiet) for model in status.models or ()),
            "storage": None,
        }
    )


def _disk_moved(old: NodeStorage | None, new: NodeStorage | None) -> bool:
    if old is None or new is None:
        return old is not new
    quiet = {"available_bytes": 0, "kept_free_bytes": 0}
    moved = max(
        abs(old.available_bytes - new.available_bytes),
        abs(old.kept_free_bytes - new.kept_free_bytes),
    )
    return old.model_copy(update=quiet) != new.model_copy(update=quiet) or moved * 100 > max(
        new.capacity_bytes, 1
    )
