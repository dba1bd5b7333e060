"""The command line as a person runs it, in a process of its own."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = (sys.executable, "-m", "agent.cli")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


class Cli:
    """Runs `localmodel-agent`; the environment holds no credentials but those given."""

    def __init__(self, **environment: str) -> None:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "HF_", "GOOGLE_", "STORAGE_", "LOCALMODEL_"))
        }
        self.environment = {
            **kept,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            **environment,
        }

    def __call__(self, *arguments: str | Path) -> Ended:
        done = subprocess.run(
            [*_PROGRAM, *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*_PROGRAM, *map(str, arguments)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever runs the tests in the background has Ctrl-C ignored, which children inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def end(program: subprocess.Popen[str], how: signal.Signals) -> Ended:
    """Send the signal and wait."""
    program.send_signal(how)
    out, err = program.communicate(timeout=30)
    return Ended(program.returncode, out, err)


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
