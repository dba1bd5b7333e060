"""The network between this machine and its nodes: one bridge, an address for each node, a subnet for each node's pods."""

import contextlib
import subprocess
from types import TracebackType
from typing import Final, Self

BRIDGE: Final = "localmodel0"
HOST: Final = "10.200.0.1"
"""This machine as nodes and pods reach it."""
SERVICE: Final = "10.96.0.1"
"""The API server: the address that pods are given as that of the Service `kubernetes`."""
MOST_NODES: Final = 8
_SECONDS = 30


class Network:
    """`with Network()`: the bridge is up. One that a crash left behind is replaced; veths die with their nodes."""

    def __enter__(self) -> Self:
        self._remove()
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{HOST}/16", "dev", BRIDGE)
        run("ip", "address", "add", f"{SERVICE}/32", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def attach(self, pid: int, number: int) -> None:
        """Connect the network namespace of process `pid` as node `number`."""
        outside = f"localmodel0n{number}"
        with contextlib.suppress(RuntimeError):
            run("ip", "link", "delete", outside)
        peer = ("peer", "name", "eth0", "netns", str(pid))
        run("ip", "link", "add", outside, "type", "veth", *peer)
        run("ip", "link", "set", outside, "master", BRIDGE, "up")
        inside = ("nsenter", "-t", str(pid), "-n", "ip")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "address", "add", f"{address(number)}/16", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", HOST)
        for other in range(1, MOST_NODES + 1):
            if other != number:
                run(*inside, "route", "add", pods(other), "via", address(other))
        run("ip", "route", "replace", pods(number), "via", address(number))

    def cut(self, number: int, *, off: bool) -> None:
        """Pull the node's cable, or put it back."""
        run("ip", "link", "set", f"localmodel0n{number}", "down" if off else "up")

    def _remove(self) -> None:
        with contextlib.suppress(RuntimeError):
            run("ip", "link", "delete", BRIDGE)


def address(number: int) -> str:
    return f"10.200.0.{10 + number}"


def pods(number: int) -> str:
    return f"10.244.{number}.0/24"


def run(*command: str) -> str:
    """Its output; RuntimeError with its errors when it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_SECONDS, check=False, stdin=None
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
