"""The images that nodes run, built by buildah on a Debian made by debootstrap, as archives for containerd to import."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.support.cluster import REPOSITORY
from tests.support.installing import cache
from tests.support.nodes.configuration import PAUSE

_SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates"
# Half of a minimal Debian, and nothing that Python needs.
_BALLAST = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
)
_PAUSE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_BUILD_SECONDS = 900
_KEPT_SECONDS = 24 * 3600
_PARTIAL = ".partial-"
AGENT = "ghcr.io/localmodel/agent:0.1.0"
CONTROLLER = "ghcr.io/localmodel/controller:0.1.0"
READER = "localhost/reader:1"
"""A model server's stand-in: Python with onnxruntime."""


@dataclass(frozen=True)
class Archive:
    """An image in docker's format, and what can be read from it without running it."""

    path: Path

    def configuration(self) -> dict[str, Any]:
        """User, Entrypoint, Labels and so on."""
        with tarfile.open(self.path) as archive:
            whole: dict[str, Any] = json.loads(_read(archive, self._manifest(archive)["Config"]))
            found: dict[str, Any] = whole["config"]
            return found

    def layers(self) -> list[tuple[str, int]]:
        """SHA-256 of each layer's tar and its bytes, the base's first."""
        with tarfile.open(self.path) as archive:
            names: list[str] = self._manifest(archive)["Layers"]
            return [(Path(name).stem, archive.getmember(name).size) for name in names]

    def files(self, *, above: int = 0) -> dict[str, int]:
        """Bytes of each file in the layers after the first `above`; a removed one is listed as `….wh.NAME`."""
        found: dict[str, int] = {}
        with tarfile.open(self.path) as archive:
            for name in self._manifest(archive)["Layers"][above:]:
                member = archive.extractfile(name)
                if member is not None:
                    with tarfile.open(fileobj=member) as layer:
                        found |= {item.name: item.size for item in layer if not item.isdir()}
        return found

    def _manifest(self, archive: tarfile.TarFile) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(_read(archive, "manifest.json"))[0]
        return found


def build_all() -> tuple[Path, ...]:
    """Archives of everything that a node of the tests runs."""
    return (pause(), program("controller").path, program("agent").path, reader())


def program(name: str, *, changed: str = "", again: bool = False) -> Archive:
    """`agent` or `controller` from its Dockerfile.

    changed: a label that makes it another image of the same program, tagged `….-changed`. again: built from nothing,
    whatever is there.
    """
    tag = {"agent": AGENT, "controller": CONTROLLER}[name] + (f"-{changed}" if changed else "")
    foundation = base()
    build = ["bud", "--format=docker", "--isolation=chroot", "--timestamp=0", "--layers"]
    build += ["--no-cache"] if again else []
    build += [f"--build-arg=BASE={foundation}", f"--file=Dockerfile.{name}", *_trusting()]
    build += [f"--label=localmodel.test/changed={changed}"] if changed else []
    path = _place(tag + ("-again" if again else ""), *_sources(name), foundation)
    return Archive(_made(path, tag, lambda: _buildah(*build, f"--tag={tag}", "."), again=again))


def reader() -> Path:
    locked = re.search(
        r'name = "onnxruntime"\nversion = "(\S+)"', (REPOSITORY / "uv.lock").read_text()
    )
    if locked is None:
        raise RuntimeError("uv.lock has no onnxruntime")
    recipe = f"""FROM {base()}
RUN python3 -m venv /opt/reader && /opt/reader/bin/pip install --quiet onnxruntime=={locked[1]}
USER 4711:4711
"""
    return small(READER, recipe)


def small(tag: str, recipe: str, files: Mapping[str, str] = MappingProxyType({})) -> Path:
    """An image of a Dockerfile and the few files that it takes."""

    def build() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**files, "Dockerfile": recipe}.items():
                (Path(folder) / name).write_text(text)
            command = ["bud", "--isolation=chroot", "--layers", "--timestamp=0", *_trusting()]
            _buildah(*command, f"--tag={tag}", folder)

    return _made(_place(tag, recipe, *files.values()), tag, build)


def pause() -> Path:
    """What holds a pod's namespaces."""

    def build() -> None:
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "pause"
            command = ["cc", "-static", "-O2", "-x", "c", "-o", str(program), "-"]
            subprocess.run(command, input=_PAUSE, text=True, check=True, timeout=60)
            _commit(program, "/pause", PAUSE, "--entrypoint", '["/pause"]')

    return _made(_place(PAUSE, _PAUSE), PAUSE, build)


def base() -> str:
    """A Debian with Python, in place of the official Python image that no registry gives us."""
    tag = f"localhost/base:{_key(_SUITE, _PACKAGES, *_BALLAST)}"
    with _alone():
        if not _buildah("images", "--quiet", "--filter", f"reference={tag}").strip():
            with tempfile.TemporaryDirectory(dir=_folder()) as folder:
                root = Path(folder) / "root"
                make = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE]
                _run([*make, str(root)])
                for name in _BALLAST:
                    shutil.rmtree(root / name, ignore_errors=True)
                _commit(root, "/", tag)
    return tag


def _commit(source: Path, target: str, tag: str, *configuration: str) -> None:
    container = _buildah("from", "scratch").strip()
    try:
        _buildah("add", "--quiet", container, str(source), target)
        if configuration:
            _buildah("config", *configuration, container)
        _buildah("commit", "--quiet", container, tag)
    finally:
        _buildah("rm", container)


def _place(tag: str, *ingredients: str) -> Path:
    return _folder() / f"{re.sub(r'[^a-z0-9.]+', '-', tag)}.{_key(*ingredients)}.tar"


def _made(path: Path, tag: str, build: Callable[[], object], *, again: bool = False) -> Path:
    with _alone():
        if again or not _there(path):
            build()
            _save(tag, path)
    return path


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One builds at a time on a machine: another run, of other sources, gives its image the same tag."""
    with (_folder() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _save(tag: str, path: Path) -> None:
    """Whole or not at all; what nobody wanted for a day goes."""
    prune(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_PARTIAL) as folder:
        fresh = Path(folder) / path.name
        _buildah("push", "--quiet", tag, f"docker-archive:{fresh}:{tag}")
        fresh.rename(path)
    # Layers of builds whose tag has gone to a later one.
    _buildah("rmi", "--prune")


def prune(folder: Path, *, older_than: float = _KEPT_SECONDS) -> None:
    """Another run on this machine, of other sources, still imports the archives that it was given."""
    oldest = time.time() - older_than
    for archive in folder.glob("*.tar"):
        if archive.stat().st_mtime < oldest:
            archive.unlink(missing_ok=True)
    for partial in folder.glob(f"{_PARTIAL}*"):
        if partial.stat().st_mtime < oldest:
            shutil.rmtree(partial, ignore_errors=True)


def _there(path: Path) -> bool:
    """An archive that is wanted is kept for another day."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _sources(name: str) -> list[str]:
    """Everything that the build of a program sees."""
    files = [f"Dockerfile.{name}", "pyproject.toml", "uv.lock", "README.md", "LICENSE"]
    paths = [REPOSITORY / file for file in files]
    for package in ("agent", "controller", "shared"):
        found = (REPOSITORY / package).rglob("*")
        paths += sorted(path for path in found if path.is_file() and path.suffix != ".pyc")
    return [f"{path}:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths]


def _key(*ingredients: str) -> str:
    return hashlib.sha256("\n".join(ingredients).encode()).hexdigest()[:12]


def _trusting() -> list[str]:
    """Where packages come through a proxy with an authority of its own, the builder needs it; nothing of it stays."""
    return [f"--volume={_AUTHORITIES}:{_AUTHORITIES}:ro"] if _AUTHORITIES.exists() else []


def _buildah(*arguments: str) -> str:
    # A store of its own: this machine's images stay as they are, and removing the cache removes everything.
    store = [f"--root={_folder() / 'store'}", "--runroot=/run/localmodel-buildah"]
    return _run(["buildah", *store, "--storage-driver=overlay", *arguments])


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        cwd=REPOSITORY,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def _folder() -> Path:
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    return b"" if member is None else member.read()
