"""What containerd, the kubelet and the pod network of one node are told."""

import json
from pathlib import Path

import yaml

from tests.support.nodes.network import address, pods

PAUSE = "localhost/pause:1"
SOCKET = "/run/containerd/containerd.sock"
CGROUPS = "localmodel-nodes"


def write(folder: Path, name: str, number: int, authority: Path) -> None:
    """containerd.toml, kubelet.yaml, resolv.conf and cni/ below the node's folder."""
    (folder / "containerd.toml").write_text(_containerd(folder))
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(folder, name, authority)))
    # Nothing resolves names: sources are given by address.
    (folder / "resolv.conf").write_text("")
    (folder / "cni").mkdir(exist_ok=True)
    (folder / "cni/10-bridge.conflist").write_text(json.dumps(_network(number)))


def kubelet_arguments(folder: Path, name: str, number: int) -> list[str]:
    return [
        f"--config={folder / 'kubelet.yaml'}",
        f"--kubeconfig={folder / 'kubelet.kubeconfig'}",
        f"--hostname-override={name}",
        f"--node-ip={address(number)}",
        "--v=1",
    ]


def _containerd(folder: Path) -> str:
    # restrict_oom_score_adj: where the tests run as a root without CAP_SYS_RESOURCE no pod would start.
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "{SOCKET}"
[ttrpc]
address = "{SOCKET}.ttrpc"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
conf_dir = "{folder / "cni"}"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE}"
"""


def _kubelet(folder: Path, name: str, authority: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUPS}/{name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "resolvConf": str(folder / "resolv.conf"),
        # Nodes share this machine's disk and memory, which are none of a node's business.
        "evictionHard": {"nodefs.available": "1Mi", "imagefs.available": "1Mi"},
        "imageGCHighThresholdPercent": 100,
        # Quicker than in real life, so that tests wait less.
        "nodeStatusUpdateFrequency": "4s",
        "syncFrequency": "10s",
    }


def _network(number: int) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": pods(number)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": "/run/cni",
        },
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, {"type": "loopback"}]}
