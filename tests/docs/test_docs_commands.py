"""Commands of README and documentation: those that can run here are run, of all others the arguments are checked."""

from collections import defaultdict

import pytest

from tests.docs.blocks import Block, blocks, found
from tests.docs.commands import Wrong, check
from tests.docs.conftest import Shell
from tests.support.cluster import REPOSITORY
from tests.support.controlplane import ControlPlane

ALL = blocks()
COMMANDS = [block for block in ALL if block.commands is not None]
RUN = [block for block in ALL if block.mark == "run"]
ON_A_CLUSTER: dict[str, list[Block]] = defaultdict(list)
for _block in ALL:
    if _block.mark == "run: cluster":
        ON_A_CLUSTER[_block.page].append(_block)


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_every_command_exists(block: Block) -> None:
    check(block.commands or "")


@pytest.mark.parametrize("block", RUN, ids=str)
def test_what_can_run_anywhere_runs(block: Block, shell: Shell) -> None:
    shell(block.commands)


@pytest.mark.parametrize("page", sorted(ON_A_CLUSTER))
def test_what_needs_a_cluster_runs_on_one(page: str, clean: ControlPlane, shell: Shell) -> None:
    for block in ON_A_CLUSTER[page]:
        shell(block.commands, cwd=REPOSITORY, kubeconfig=clean.admin_kubeconfig)


def test_blocks_are_found_with_what_they_are() -> None:
    text = (
        "Text\n\n    make test\n\n    # twice\n    make lint\n\n- a list\n\n    that goes on\n\n"
        "<!-- run -->\n```sh\nls\n```\n\n```\n$ kubectl get pods\nNAME\n```\n"
    )
    kinds = [(block.line, block.kind, block.mark, block.commands) for block in found("p.md", text)]
    assert kinds == [
        (3, "indented", None, "make test\n\n# twice\nmake lint\n\n"),
        (13, "sh", "run", "ls\n"),
        (17, "", None, "kubectl get pods\n"),
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
