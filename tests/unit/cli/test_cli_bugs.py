"""A bug ends in a sentence, whichever program has it: nobody reads a traceback who did not ask for one."""

import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

import agent.cli
import controller.cli
from tests.unit.cli.program import environment
from tests.unit.kube.wire import write_kubeconfig


@pytest.mark.parametrize(
    ("main", "argv", "broken"),
    [
        (agent.cli.main, ("ls", "--root", "/"), "agent.cli.shelf.run_ls"),
        (agent.cli.main, ("resolve", "file:///x"), "agent.cli.resolve.run_resolve"),
        (agent.cli.main, ("run",), "agent.cli.serve.main"),
        (controller.cli.main, ("gc", "--dry-run"), "controller.cli.look.garbage"),
        (controller.cli.main, ("create", "hf://a/b", "-g", "g"), "controller.cli.make.created"),
    ],
)
def test_a_bug_ends_in_a_sentence(
    main: Callable[[], None],
    argv: tuple[str, ...],
    broken: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    config = write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    with (
        mock.patch.dict("os.environ", environment(KUBECONFIG=str(config)), clear=True),
        mock.patch.object(sys, "argv", ["program", *argv]),
        mock.patch(broken, side_effect=RuntimeError("no such\nthing\x1b[2J\x9b\u202e")),
        mock.patch("gc.set_threshold"),
    ):
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.rstrip("\n").isprintable()
        shown = "no such thing\\x1b[2J\\x9b\\u202e"
        assert err.startswith(f"Error: unexpected RuntimeError: {shown} (LOCALMODEL_DEBUG=1")
