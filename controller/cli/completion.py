"""What could come next on the command line, with live names; nothing when the cluster does not answer at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from controller.cli.scripts import SCRIPTS

# Longer, and somebody would press the key again.
_SECONDS: Final = 2.0

Candidates = Iterator[str]
"""`word`, or `word TAB description` as Cobra has it."""


def candidates(words: Sequence[str]) -> Candidates:
    """words: what follows `kubectl localmodel`, the one that is being typed last (perhaps empty)."""
    from typer.main import get_command

    from controller.cli.commands import app

    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]  # it has several
    *before, current = words or [""]
    position = next((at for at, word in enumerate(before) if word in commands), None)
    if position is None:
        yield from _starting(current, {n: c.get_short_help_str() for n, c in commands.items()})
        return
    command = commands[before[position]]
    options = {opt: p for p in command.params for opt in p.opts if opt.startswith("-")}
    previous = options.get(before[-1])
    if previous is not None and not previous.is_flag:
        yield from _starting(current, _values(previous, before))
    elif current.startswith("-"):
        yield from _starting(
            current, {name: p.help or "" for name, p in options.items() if "--" in name}
        )
    else:
        given = _positional(before[position + 1 :], options)
        yield from _starting(current, _arguments(command.name, given, before))


def is_file(words: Sequence[str]) -> bool:
    """Whether what is being typed is a file's name."""
    return len(words) > 1 and words[-2] in ("-f", "--filename", "--kubeconfig")


def _starting(current: str, found: dict[str, str]) -> Candidates:
    for word, about in found.items():
        if word.startswith(current):
            yield f"{word}\t{about}" if about else word


def _positional(words: Sequence[str], options: dict[str, Any]) -> list[str]:
    """Arguments that are no options and no options' values."""
    found, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            option = options.get(word)
            skip = option is not None and not option.is_flag
        else:
            found.append(word)
    return found


def _values(option: Any, words: Sequence[str]) -> dict[str, str]:
    if option.name == "output" or option.name == "dry_run":
        return dict.fromkeys(str(option.metavar).split("|"), "")
    if option.name == "group":
        return _live(_groups, words)
    if option.name == "namespace":
        return _live(_namespaces, words)
    return {}


def _arguments(command: str, given: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    if command == "completion":
        return dict.fromkeys(SCRIPTS, "")
    if command == "node" and not given:
        return _live(_nodes, words)
    if command in ("explain", "retry") and len(given) == 1:
        return _live(_nodes, words)
    if command == "wait" or (command in ("status", "explain", "retry") and not given):
        return {key: about for key, about in _live(_caches, words).items() if key not in given}
    return {}


def _live(
    read: Callable[[Any, str | None], Awaitable[dict[str, str]]], words: Sequence[str]
) -> dict[str, str]:
    return asyncio.run(_asked(read, words))


async def _asked(
    read: Callable[[Any, str | None], Awaitable[dict[str, str]]], words: Sequence[str]
) -> dict[str, str]:
    from pathlib import Path

    from controller.cli.cluster import connected
    from controller.cli.kubeconfig import find

    config = _given(words, "--kubeconfig")
    target = find(Path(config) if config else None, _given(words, "--context"))
    async with asyncio.timeout(_SECONDS), connected(target) as cluster:
        return await read(cluster, _given(words, "-n") or _given(words, "--namespace"))


def _given(words: Sequence[str], option: str) -> str | None:
    """The value of an option on the line, as `--option value` or `--option=value`."""
    for at, word in enumerate(words):
        if word == option and at + 1 < len(words):
            return words[at + 1]
        if word.startswith(f"{option}=") and option.startswith("--"):
            return word.partition("=")[2]
    return None


async def _caches(cluster: Any, namespace: str | None) -> dict[str, str]:
    from controller.cli import read

    found = (await read.caches(cluster, namespace)).caches
    return {
        one.view.name if namespace else one.key: one.headline.reason if one.headline else ""
        for one in sorted(found, key=lambda one: one.key)
    }


async def _namespaces(cluster: Any, namespace: str | None) -> dict[str, str]:
    from controller.cli import read

    found = (await read.caches(cluster, None)).caches
    return dict.fromkeys(sorted({one.view.namespace for one in found if one.view.namespace}), "")


async def _nodes(cluster: Any, namespace: str | None) -> dict[str, str]:
    from controller.cli import read

    return dict.fromkeys(sorted(await read.nodes(cluster, ()) or {}), "")


async def _groups(cluster: Any, namespace: str | None) -> dict[str, str]:
    from shared.kube.resource import LOCAL_MODEL_NODE_GROUPS

    found = await cluster.list(LOCAL_MODEL_NODE_GROUPS)
    return dict.fromkeys(sorted(raw["metadata"]["name"] for raw in found), "")
