"""Commands of README and documentation: those that can run here are run, of all others the arguments are checked."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.docs.blocks import Block, blocks, found
from tests.docs.commands import Wrong, check
from tests.docs.conftest import Shell
from tests.docs.scene import WORDS, Scene

ALL = blocks()
COMMANDS = [block for block in ALL if block.commands is not None]
# Played by a test of its own, with faults in it.
REPLAYED = "docs/investigation.md"
RUN: dict[str, list[Block]] = defaultdict(list)
for _block in COMMANDS:
    if _block.script and _block.page != REPLAYED:
        RUN[_block.page].append(_block)


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_every_command_exists(block: Block) -> None:
    check(block.commands or "")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", sorted(RUN))
def test_the_commands_of_a_page_run_one_after_the_other(
    page: str, scene: Scene, shell: Shell, folder: Path
) -> None:
    scene.begin(page, folder)
    for block in RUN[page]:
        scene.prepare(page)
        words = re.sub(
            rf"(?<!\w)({'|'.join(WORDS)})(?!\w)", lambda found: WORDS[found[1]], block.script
        )
        shell(words, scene.environment)


def test_what_is_not_run_says_why_and_names_lines_that_are_there() -> None:
    for block in ALL:
        if block.why is not None:
            assert block.commands is not None, f"{block}: a mark on what is no command"
        if block.but is not None:
            assert block.script not in ("", block.commands), f"{block}: {block.but}"


def test_blocks_are_found_with_what_they_are() -> None:
    text = (
        "Text\n\n    make test\n\n    # twice\n    make lint\n\n- a list\n\n    that goes on\n\n"
        "<!-- not run: it takes long -->\n```sh\nls\n```\n\n```\n$ kubectl get pods\nNAME\n```\n\n"
        "<!-- run but for `logs`: no kubelet -->\n```sh\nls\nkubectl logs POD\n```\n"
    )
    kinds = [
        (block.line, block.kind, block.commands, block.script) for block in found("p.md", text)
    ]
    twice = "make test\n\n# twice\nmake lint\n\n"
    assert kinds == [
        (3, "indented", twice, twice),
        (13, "sh", "ls\n", ""),
        (17, "", "kubectl get pods\n", "kubectl get pods\n"),
        (23, "sh", "ls\nkubectl logs POD\n", "ls\n"),
    ]


@pytest.mark.parametrize("text", ["```bash\nls\n```", "```\nanything\n```", "```python\n1\n```"])
def test_a_block_of_an_unknown_kind_is_an_error(text: str) -> None:
    (block,) = found("p.md", text)
    with pytest.raises(ValueError, match="unknown kind"):
        _ = block.commands


@pytest.mark.parametrize(
    "command",
    [
        "localmodel-agent pul s3://b/m",
        "localmodel-agent pull s3://b/m --rooot data",
        "localmodel-agent pull --root data",
        "kubectl localmodel explain",
        "kubectl localmodel wait a --forever",
        "kubectl frobnicate",
        "kubectl get localmodelthings",
        "kubectl apply -k deploy/overlays/nowhere",
        "kubectl get pods --upside-down",
        "make tests",
        "deploy/uninstall.sh --everything",
        "helm install a deploy/chart --set agent.colour=red",
        "uv run python -m tests.docs.nothing",
        "frobnicate",
        "echo a && frobnicate",
        "if",
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    with pytest.raises(Wrong):
        check(command)
