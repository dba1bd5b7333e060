import fcntl
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.domain.storage_key import storage_key
from tests.component.agent.terminal import Cli, end, files_below
from tests.support.processes import wait_until
from tests.support.servers.s3 import S3Server

MIB = 1 << 20
LARGE = {f"part-{n}.bin": random.Random(n).randbytes(6 * MIB) for n in range(8)}
# Two at a time and three seconds from the end, so that four are complete when the program is killed, and two under way.
SLOW = ("--max-rate", "8Mi", "--connections", "2")
# As a network file system whose server is gone: the read never comes back, and no signal ends it.
DEAD_SOURCE = """
import os, sys, threading
def hang(*_):
    print("reading", flush=True)
    threading.Event().wait()
os.preadv = hang
from agent.cli import main
main()
"""


@pytest.fixture(scope="module")
def uri(s3: S3Server) -> str:
    for name, content in LARGE.items():
        s3.put("models", f"large/{name}", content)
    return "s3://models/large"


def files_kept(root: Path) -> int:
    """Lines of the journal: each small file is one range, noted once it is on disk."""
    journals = (root / ".localmodel" / "staging").glob("*/journal/*")
    return sum(len(path.read_bytes().splitlines()) for path in journals)


def half_way(cli: Cli, uri: str, root: Path) -> "subprocess.Popen[str]":
    program = cli.start("pull", uri, "--root", root, *SLOW)
    wait_until(lambda: files_kept(root) >= 4, seconds=60, what="half of the model", interval=0.02)
    return program


def transferred(err: str) -> float:
    found = re.search(r"\((\d+(?:\.\d+)?) (B|KiB|MiB) transferred\)", err)
    assert found, err
    return float(found[1]) * {"B": 1, "KiB": 1024, "MiB": MIB}[found[2]]


def test_after_kill_9_the_same_command_goes_on(cli: Cli, uri: str, root: Path) -> None:
    killed = end(half_way(cli, uri, root), signal.SIGKILL)
    assert killed.code == -signal.SIGKILL
    assert files_below(root / "models") == {}
    again = cli("pull", uri, "--root", root)
    assert again.code == 0, again.err
    assert files_below(root / "models" / storage_key(uri)) == LARGE
    assert transferred(again.err) <= 24 * MIB


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_pull_says_that_it_can_go_on(
    cli: Cli, uri: str, root: Path, how: signal.Signals
) -> None:
    ended = end(half_way(cli, uri, root), how)
    assert ended.code == 130
    assert "the same command goes on from there" in ended.err
    assert "Traceback" not in ended.err
    again = cli("pull", uri, "--root", root)
    assert again.code == 0, again.err
    assert transferred(again.err) <= 24 * MIB
    assert files_below(root / "models" / storage_key(uri)) == LARGE


def test_a_read_that_never_comes_back_does_not_hold_the_program(
    cli: Cli, tmp_path: Path, root: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.bin").write_bytes(b"weights")
    program = subprocess.Popen(
        [sys.executable, "-c", DEAD_SOURCE, "pull", f"file://{source}", "--root", str(root)],
        env=cli.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "reading\n"
    assert end(program, signal.SIGTERM).code == 130
    again = cli("pull", f"file://{source}", "--root", root)
    assert again.code == 0, again.err


def test_a_second_program_on_one_folder_is_refused_and_reading_is_not(
    cli: Cli, uri: str, root: Path
) -> None:
    program = cli.start("pull", uri, "--root", root, "--max-rate", "1Mi")
    lock = root / ".localmodel" / "lock"
    wait_until(lock.exists, seconds=60, what="the first program's lock")
    for command in (["pull", uri], ["rm", uri]):
        refused = cli(*command, "--root", root)
        assert refused.code == 4
        assert "is in use by another agent" in refused.err
    assert cli("ls", "--root", root).code == 0
    end(program, signal.SIGKILL)


def test_elsewhere_than_on_a_terminal_progress_is_plain_lines(
    cli: Cli, uri: str, root: Path
) -> None:
    done = cli("pull", uri, "--root", root, "--max-rate", "8Mi")
    assert done.code == 0, done.err
    assert "\x1b" not in done.err
    assert re.search(r"^downloading .* of 48.0 MiB \(\d+ %\), .*/s, \d+ s left$", done.err, re.M)


def test_on_a_terminal_there_is_a_bar(uri: str, s3: S3Server, cli: Cli, root: Path) -> None:
    master, slave = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "agent.cli", "pull", uri, "--root", root, "--max-rate", "32Mi"],
        env={**cli.environment, "TERM": "xterm-256color", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=slave,
    )
    os.close(slave)
    seen = read_all(master, program)
    assert program.wait(30) == 0, seen
    assert "━" in seen
    assert "downloading" in seen


def read_all(master: int, program: "subprocess.Popen[bytes]") -> str:
    fcntl.fcntl(master, fcntl.F_SETFL, os.O_NONBLOCK)
    seen, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        select.select([master], [], [], 0.2)
        try:
            chunk = os.read(master, 65536)
        except BlockingIOError:
            continue
        except OSError:
            break
        seen += chunk
    os.close(master)
    if program.stdout is not None:
        program.stdout.close()
    return seen.decode(errors="replace")
