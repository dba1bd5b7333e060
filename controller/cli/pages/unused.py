"""`gc --dry-run`: caches that no service uses, by what they take, and how old they are. Pure."""

from collections.abc import Sequence
from datetime import datetime

from controller.cli.pages.facts import CacheFacts
from controller.cli.pages.text import Line, Span, Style, ago, counted, line, size, table


def unused(found: Sequence[CacheFacts]) -> list[CacheFacts]:
    """What takes most comes first; of equal size the oldest."""
    idle = [one for one in found if not one.services and not one.view.deleting]
    return sorted(idle, key=lambda one: (-one.done, one.view.created, one.key))


def page(found: Sequence[CacheFacts], *, now: datetime) -> list[Line]:
    idle = unused(found)
    if not idle:
        return [line(f"Every one of {counted(len(found), 'cache')} is used by a service.")]
    rows = [
        (
            one.key,
            size(one.view.size),
            str(one.copies.get("total", 0)),
            size(one.done),
            ago(one.created, now),
            one.view.uri,
        )
        for one in idle
    ]
    lines = table(("CACHE", "SIZE", "NODES", "ON DISKS", "AGE", "SOURCE"), rows)
    total = size(sum(one.done for one in idle))
    lines.append(line(""))
    lines.append(
        line(
            f"No InferenceService or LLMInferenceService uses {counted(len(idle), 'cache')} of {len(found):,}; "
            f"on all disks together they take {total}."
        )
    )
    text = "Pods that mount a cache's volume without such a service are not seen. To delete one: "
    lines.append(line(Span(text + " or ".join(_deletions(idle)), Style.DIM)))
    return lines


def _deletions(idle: Sequence[CacheFacts]) -> list[str]:
    """The command for each kind that is listed; a namespace cache's key is NAMESPACE/NAME."""
    kinds = {one.kind for one in idle}
    commands = {
        "LocalModelCache": "kubectl delete localmodelcache NAME",
        "LocalModelNamespaceCache": "kubectl delete localmodelnamespacecache -n NAMESPACE NAME",
    }
    return [command for kind, command in commands.items() if kind in kinds]
