"""What the demo shows: headings, commands with their output, live progress."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from shared.domain.quantity import human_bytes

console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
_STARTED = time.monotonic()
# Without a terminal, a line this often says where things are.
_PLAIN_SECONDS = 2.0


def heading(text: str) -> None:
    console.print(f"\n[bold]── {text}[/] [dim]({time.monotonic() - _STARTED:.0f} s)[/]")


def say(text: str) -> None:
    console.print(text)


def command(line: str, output: str) -> None:
    console.print(f"[green]$ {line}[/]", markup=True)
    console.print(output.rstrip(), markup=False)


def watch(
    snapshot: Callable[[], list[dict[str, Any]]],
    until: Callable[[list[dict[str, Any]]], bool],
    *,
    seconds: float,
) -> None:
    """Show every node's copies until the condition holds; TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    said = 0.0
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            nodes = snapshot()
            if console.is_terminal:
                live.update(_table(nodes), refresh=True)
            elif time.monotonic() - said >= _PLAIN_SECONDS:
                said = time.monotonic()
                for line in _lines(nodes):
                    console.print(line)
            if until(nodes):
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s: {json.dumps(nodes)[:2000]}")
            time.sleep(0.2)
    if not console.is_terminal:
        for line in _lines(snapshot()):
            console.print(line)


def _table(nodes: list[dict[str, Any]]) -> Table:
    table = Table("Node", "Model", "State", "Progress", "Rate", "Verified by", "Reason", box=None)
    for node in nodes:
        for model in node.get("status", {}).get("models") or ():
            table.add_row(node["metadata"]["name"], *_cells(model))
    return table


def _lines(nodes: list[dict[str, Any]]) -> list[str]:
    lines = []
    for node in nodes:
        models = node.get("status", {}).get("models") or ()
        texts = [" ".join(cell for cell in _cells(model) if cell) for model in models]
        lines.append(f"  {node['metadata']['name']}: {' · '.join(texts) or 'nothing yet'}")
    return lines


def _cells(model: dict[str, Any]) -> tuple[str, str, str, str, str, str]:
    done, total = model.get("bytesDone") or 0, model.get("bytesTotal") or 0
    progress = f"{100 * done // total}%" if total else ""
    rate = model.get("bytesPerSecond")
    return (
        model["key"],
        model["state"].removeprefix("Model"),
        progress,
        f"{human_bytes(rate)}/s" if rate else "",
        model.get("verifiedBy") or "",
        model.get("reason") or "",
    )
