"""`python -IS init.py FOLDER`: process 1 of a node, in namespaces of its own. Mounts the node's disks, then buries the dead.

When it dies, the kernel ends every process of the node, and with them go mounts, loop devices and network.
"""

import os
import subprocess
import sys
import time
from pathlib import Path


def main(folder: Path) -> None:
    _mount("--make-rprivate", "/")
    _mount("-t", "proc", "proc", "/proc")
    # Sockets and pids of a running system: gone at each start.
    _mount("-t", "tmpfs", "tmpfs", "/run")
    for name in ("lib", "log"):
        _mount("--bind", str(folder / name), f"/var/{name}")
    _mount("-o", "loop", str(folder / "models.img"), "/models")
    _mount("--make-rshared", "/")
    (folder / "mounted").touch()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            # Orphans come later; their parents still live.
            time.sleep(0.5)


def _mount(*arguments: str) -> None:
    subprocess.run(["/bin/mount", *arguments], check=True, timeout=30)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
