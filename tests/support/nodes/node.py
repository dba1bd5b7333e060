"""One real node: containerd and kubelet in namespaces of their own, with a disk of its own at /models."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support import binaries
from tests.support.controlplane import ControlPlane
from tests.support.nodes import cgroups, configuration
from tests.support.nodes.network import Network, run
from tests.support.processes import Process, wait_until

_PROGRAMS = ("kubelet", "containerd", "containerd-shim-runc-v2", "ctr")
_INIT = Path(__file__).with_name("init.py")
_START_SECONDS = 60
_IMPORT_SECONDS = 180


class Node:
    """`start` switches it on, `power_off` is a power cut: what is on its disks stays. Its name is that of its Node object."""

    def __init__(
        self,
        name: str,
        number: int,
        *,
        control_plane: ControlPlane,
        network: Network,
        disk_mib: int,
    ) -> None:
        self.name = name
        self.number = number
        self.folder = control_plane.folder.parent / name
        self._network = network
        self._programs = binaries.find(_PROGRAMS)
        self._init: Process | None = None
        self._pid = 0
        self._running: dict[str, Process] = {}
        for part in ("lib", "log"):
            (self.folder / part).mkdir(parents=True)
        disk = self.folder / "models.img"
        with disk.open("wb") as file:
            file.truncate(disk_mib << 20)
        run("mkfs.ext4", "-q", "-m", "0", str(disk))
        configuration.write(self.folder, name, number, control_plane.pki.certificate)
        control_plane.write_kubeconfig(
            self.folder / "kubelet.kubeconfig",
            common_name=f"system:node:{name}",
            organization="system:nodes",
        )

    def start(self, *, kubelet: bool = True) -> None:
        """Boot it, and wait until its container runtime answers."""
        cgroups.prepare(self.name)
        mounted = self.folder / "mounted"
        mounted.unlink(missing_ok=True)
        namespaces = ("--mount", "--net", "--pid", "--uts", "--ipc")
        self._init = Process(
            f"{self.name}-init",
            [
                *("unshare", *namespaces, "--fork", "--kill-child", "--"),
                *(sys.executable, "-IS", str(_INIT), str(self.folder)),
            ],
            log=self.folder / "init.log",
        )
        self._init.start()
        self._init.wait_ready(mounted.exists, seconds=_START_SECONDS)
        (self._pid,) = _children(self._init.pid)
        run("nsenter", "-t", str(self._pid), "-u", "hostname", self.name)
        self._network.attach(self._pid, self.number)
        self.start_containerd()
        if kubelet:
            self.start_kubelet()

    def start_containerd(self) -> None:
        config = self.folder / "containerd.toml"
        runtime = self._start("containerd", "--config", str(config))
        runtime.wait_ready(
            lambda: self._ctr("version", check=False).returncode == 0, seconds=_START_SECONDS
        )

    def start_kubelet(self) -> None:
        self._start(
            "kubelet", *configuration.kubelet_arguments(self.folder, self.name, self.number)
        )

    def kill(self, program: str) -> None:
        """kill -9 of `kubelet` or `containerd`; containers go on."""
        process = self._running[program]
        for pid in _children(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.kill()

    def power_off(self) -> None:
        """Everything on it dies at once."""
        if self._init is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._init.kill()
        gone = Path(f"/proc/{self._pid}")
        wait_until(lambda: not gone.exists(), seconds=_START_SECONDS, what=f"{self.name} off")
        for process in self._running.values():
            process.kill()
        self._running.clear()
        self._init = None

    def remove(self) -> None:
        """Off, and its disks are thrown away."""
        self.power_off()
        cgroups.remove(self.name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def import_image(self, archive: Path) -> None:
        done = self._ctr("-n", "k8s.io", "image", "import", "--local", str(archive))
        if done.returncode != 0:
            raise RuntimeError(f"{archive.name} on {self.name}: {done.stderr}")

    def cut_network(self, *, off: bool) -> None:
        self._network.cut(self.number, off=off)

    def command(self, *command: str) -> str:
        """A command on the node as its root, with its mounts; RuntimeError with its errors when it fails."""
        return run(*self._enter(), *command)

    def host_pids(self, pattern: str) -> list[int]:
        """Processes of this node, as this machine numbers them, whose command line contains `pattern`."""
        namespace = Path(f"/proc/{self._pid}/ns/net").readlink()
        found = []
        for path in Path("/proc").iterdir():
            if not path.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                mounts = (path / "cgroup").read_text()
                here = f"/{configuration.CGROUPS}/{self.name}/" in mounts
                if pattern in line and (here or (path / "ns/net").readlink() == namespace):
                    found.append(int(path.name))
        return found

    def _enter(self) -> list[str]:
        return ["nsenter", "-t", str(self._pid), "-m", "-n", "-p", "-u", "-i", "--"]

    def _start(self, program: str, *arguments: str) -> Process:
        folders = {str(path.parent) for path in self._programs.values()}
        path = ":".join([*folders, os.environ["PATH"], "/usr/sbin", "/sbin"])
        process = Process(
            f"{self.name}-{program}",
            [*self._enter(), str(self._programs[program]), *arguments],
            log=self.folder / f"{program}.log",
            environment={"PATH": path, "HOME": "/root"},
        )
        self._running[program] = process
        process.start()
        return process

    def _ctr(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        command: Sequence[str] = [
            *self._enter(),
            str(self._programs["ctr"]),
            f"--address={configuration.SOCKET}",
            *arguments,
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_IMPORT_SECONDS, check=False
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"ctr {' '.join(arguments)}: {done.stderr}")
        return done


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
