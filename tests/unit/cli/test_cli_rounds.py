"""Looking again and again: what is old is said to be old, and logs are not flooded."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
import yaml

from controller.cli.kubeconfig import find
from controller.cli.outcome import Exit, Problem
from controller.cli.pages.text import Line, line
from controller.cli.rounds import Rounds
from controller.cli.screen import follow

T = TypeVar("T")


def failing(*exits: Exit | None) -> Rounds[int]:
    """Fails in each round that has an exit code."""
    turns = iter(enumerate(exits))

    async def read() -> int:
        turn, exit = next(turns)
        if exit is not None:
            raise Problem("The API server cannot be reached: refused.", exit=exit)
        return turn

    return Rounds(read, seconds=0)


async def first(rounds: Rounds[T], many: int) -> list[tuple[T, str | None]]:
    found: list[tuple[T, str | None]] = []
    async for value, stale in rounds:
        found.append((value, stale))
        if len(found) == many:
            break
    return found


async def test_an_outage_shows_what_was_seen_last_and_when() -> None:
    found = await first(failing(None, Exit.RETRYABLE, None), 3)
    assert [value for value, _ in found] == [0, 0, 2]
    assert found[0][1] is None
    assert found[2][1] is None
    stale = found[1][1]
    assert stale is not None
    assert stale.startswith("As of ")
    assert stale.endswith("The API server cannot be reached: refused.")


async def test_the_last_look_is_when_the_time_is_over_and_not_after_a_full_rest() -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def read() -> float:
        return loop.time() - started

    rounds = Rounds(read, seconds=60, until=started + 0.2)
    (_, _), (second, _) = await first(rounds, 2)
    assert 0.2 <= second < 30


@pytest.mark.parametrize("exits", [(Exit.RETRYABLE,), (None, Exit.STALLED)])
async def test_a_first_failure_and_one_that_does_not_pass_end_it(
    exits: tuple[Exit | None, ...],
) -> None:
    with pytest.raises(Problem):
        await first(failing(*exits), 3)


async def test_a_pipe_gets_a_line_when_it_says_something_new_and_the_last_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    numbers = count()

    async def pages() -> AsyncIterator[list[Line]]:
        for _ in range(100):
            yield [line("the page")]

    await follow(pages(), lambda: line(f"state {next(numbers)}"))
    assert capsys.readouterr().out == "state 0\nthe page\n"


def config(path: Path, *, current: str | None = None, **contexts: str) -> Path:
    """contexts: name → namespace."""
    made = [
        {"name": name, "context": {"cluster": "c", "user": "u", "namespace": namespace}}
        for name, namespace in contexts.items()
    ]
    path.write_text(yaml.safe_dump({"contexts": made, "current-context": current or ""}))
    return path


def test_several_kubeconfigs_are_one_and_the_first_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = config(tmp_path / "one", prod="models", own="mine")
    two = config(tmp_path / "two", current="prod", prod="other", dev="dev")
    monkeypatch.setenv("KUBECONFIG", f"{one}:{tmp_path / 'none'}:{two}")
    found = find(None, None)
    assert found.namespace == "models"
    assert str(found.files) == f"{one}:{two}"
    assert find(None, "dev").namespace == "dev"
    assert find(two, None).namespace == "other"
    with pytest.raises(Problem, match="no context nowhere"):
        find(None, "nowhere")
    with pytest.raises(Problem, match="no current context"):
        find(one, None)
