"""`python -m tests.support.nodes`: everything that real nodes need, once: Debian's packages, Kubernetes' programs, images."""

import os
import shutil
import subprocess
import time

from tests.support import binaries
from tests.support.nodes import images

# Package → a program of it.
_PACKAGES = {
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "iproute2": "ip",
    "e2fsprogs": "mkfs.ext4",
}
_INSTALL_SECONDS = 600
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def main() -> None:
    if os.geteuid() != 0:
        raise SystemExit("real nodes need root: namespaces, mounts and control groups are made")
    install()
    binaries.build((*binaries.CONTROL_PLANE, *binaries.CLIENTS, *binaries.NODES))
    started = time.monotonic()
    print("building the images (about 2 minutes the first time)", flush=True)
    for archive in images.build_all():
        print(f"  {archive.name}: {archive.stat().st_size / 1e6:.0f} MB", flush=True)
    print(f"images: {time.monotonic() - started:.0f} s", flush=True)


def install() -> None:
    missing = [name for name, file in _PACKAGES.items() if not shutil.which(file, path=_PATH)]
    if not missing:
        return
    print(f"installing {' '.join(missing)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (
        ["update", "-qq"],
        ["install", "-qq", "-y", "--no-install-recommends", *missing],
    ):
        subprocess.run(
            ["apt-get", *arguments],
            check=True,
            env=environment,
            timeout=_INSTALL_SECONDS,
            stdout=subprocess.DEVNULL,
        )


if __name__ == "__main__":
    main()
