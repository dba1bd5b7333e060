"""Completion: live names, and the shells' own scripts."""

import asyncio
import os
import sys
from pathlib import Path
from unittest import mock

import pytest

from controller.cli.completion import candidates
from tests.unit.cli.program import environment, run, run_process

COMPLETE = (sys.executable, "-c", "from controller.cli import complete; complete()")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["st"], ["status"]),
        (["status", ""], ["llama", "team/tiny"]),
        (["status", "-n", "team", ""], ["tiny"]),
        (["status", "-n", ""], ["team"]),
        (["explain", "llama", ""], ["a", "b", "c"]),
        (["wait", "llama", ""], ["team/tiny"]),
        (["node", ""], ["a", "b", "c"]),
        (["plan", "s3://b/m", "--group", ""], ["gpu"]),
        (["status", "-o", "j"], ["json"]),
        (["status", "--wa"], ["--watch"]),
        (["completion", "z"], ["zsh"]),
        (["create", ""], []),
    ],
)
async def test_completion_offers_what_there_is(
    env: dict[str, str], words: list[str], expected: list[str]
) -> None:
    with mock.patch.dict(os.environ, environment(**env), clear=True):
        found = await asyncio.to_thread(lambda: list(candidates(words)))
    assert [one.partition("\t")[0] for one in found] == expected


async def test_completion_is_silent_without_a_cluster() -> None:
    ended = await run_process(COMPLETE, "status", "")
    assert (ended.code, ended.out, ended.err) == (0, ":4\n", "")


async def test_bash_completes_the_plugins_own_name(env: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "kubectl_complete-localmodel"
    script.write_text(f"#!{sys.executable}\n{COMPLETE[2]}\n")
    script.chmod(0o755)
    script_text = (await run("completion", "bash")).out
    typed = "COMP_WORDS=(kubectl-localmodel status l); COMP_CWORD=2; _kubectl_localmodel"
    ended = await run_process(
        ("bash", "-c"),
        f"{script_text}\n{typed}; echo ${{COMPREPLY[@]}}",
        env={**env, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (ended.out, ended.err) == ("llama\n", "")
