"""Completion: live names, and the shells' own scripts."""

import asyncio
import os
import shutil
import sys
from pathlib import Path
from unittest import mock

import pytest

from controller.cli.completion import candidates
from tests.unit.cli.program import Terminal, environment, run, run_process

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


async def test_where_a_file_is_asked_for_files_are_offered() -> None:
    for words in (("plan", "-f", ""), ("plan", "--filename", "x"), ("status", "--kubeconfig", "")):
        ended = await run_process(COMPLETE, *words)
        assert (ended.code, ended.out, ended.err) == (0, ":0\n", "")


@pytest.fixture
def typing(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that finds the program, in a folder with one manifest."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, code in (
        ("kubectl_complete-localmodel", COMPLETE[2]),
        ("kubectl-localmodel", "from controller.cli import main; main()"),
    ):
        script = programs / name
        script.write_text(f"#!{sys.executable}\n{code}\n")
        script.chmod(0o755)
    (tmp_path / "manifest.yaml").touch()
    return {**env, "HOME": str(tmp_path), "PATH": f"{programs}:{os.environ['PATH']}"}


async def test_bash_completes_the_plugins_own_name(typing: dict[str, str]) -> None:
    script = (await run("completion", "bash")).out
    typed = "COMP_WORDS=(kubectl-localmodel status l); COMP_CWORD=2; _kubectl_localmodel"
    ended = await run_process(
        ("bash", "-c"), f"{script}\n{typed}; echo ${{COMPREPLY[@]}}", env=typing
    )
    assert (ended.out, ended.err) == ("llama\n", "")


@pytest.mark.parametrize(
    ("typed", "offered"), [("status l", "llama"), ("plan -f man", "manifest.yaml")]
)
async def test_fish_completes_the_plugins_own_name(
    typing: dict[str, str], tmp_path: Path, typed: str, offered: str
) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    script = (await run("completion", "fish")).out
    asked = f"cd {tmp_path}; complete -C 'kubectl-localmodel {typed}'"
    ended = await run_process(("fish", "--no-config", "-c"), f"{script}\n{asked}", env=typing)
    assert [row.partition("\t")[0] for row in ended.out.splitlines()] == [offered], ended.err


@pytest.mark.parametrize(
    ("typed", "offered"), [("status l", "llama"), ("plan -f man", "manifest.yaml")]
)
async def test_zsh_completes_the_plugins_own_name(
    typing: dict[str, str], tmp_path: Path, typed: str, offered: str
) -> None:
    """As typed on a terminal: zsh has its completion nowhere else."""
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    (tmp_path / "completion.zsh").write_text((await run("completion", "zsh")).out)
    async with Terminal(program=("zsh", "-f", "-i"), env=typing) as screen:
        screen.write(
            f"cd {tmp_path}; autoload -Uz compinit && compinit -u -D && source completion.zsh && echo rea''dy\n"
        )
        await screen.until("ready")
        screen.write(f"kubectl-localmodel {typed}\t")
        await screen.until(offered)
