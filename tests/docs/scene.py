"""What stands behind the documentation's commands: a node, a group, a cache that is there, a pod, and sources that answer."""

import json
import time
from contextlib import ExitStack
from pathlib import Path

import yaml

from shared.api.meta import API_VERSION
from tests.docs.blocks import blocks
from tests.support.cluster import AGENTS_NAMESPACE, CONTROLLER_NAMESPACE, REPOSITORY
from tests.support.controlplane import ControlPlane
from tests.support.fleet import FleetThread
from tests.support.programs import Controller
from tests.support.servers.hub import TOKEN, HubServer
from tests.support.servers.s3 import ADMIN, S3Server

# What stands for the reader's own names.
WORDS = {
    "NODE": "gpu-1",
    "CACHE": "my-model-cache",
    "POD": "pod-1",
    "URI": "s3://my-bucket/my-model",
    "/data": "data",
}
# The page on which the reader makes the cache.
_MAKES_IT = "docs/first-cache.md"
_SECONDS = 60
# Who empties a node by its label sees it emptied later, as everywhere.
_SETTINGS = {"settle_seconds": 0.05, "removal_grace_seconds": 300}


class Scene(ExitStack):
    """A running installation, its agents played by a fleet. Leaving it leaves a clean control plane."""

    def __init__(self, control_plane: ControlPlane, folder: Path) -> None:
        super().__init__()
        self.plane = control_plane
        self._folder = folder

    def __enter__(self) -> "Scene":
        super().__enter__()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    @property
    def environment(self) -> dict[str, str]:
        """A reader's own: kubeconfig, and credentials of the sources."""
        return {
            "KUBECONFIG": str(self.plane.admin_kubeconfig),
            "AWS_ENDPOINT_URL_S3": self._s3.endpoint,
            "AWS_ACCESS_KEY_ID": ADMIN.access_key_id,
            "AWS_SECRET_ACCESS_KEY": ADMIN.secret_access_key,
            "AWS_REGION": "us-east-1",
            "HF_ENDPOINT": self._hub.endpoint,
            "HF_TOKEN": TOKEN,
        }

    def begin(self, page: str, folder: Path) -> None:
        """Before the commands of a page. folder: in which they run."""
        (folder / "deploy").symlink_to(REPOSITORY / "deploy")
        for name in ("my-cache.yaml", f"{WORDS['CACHE']}.yaml"):
            (folder / name).write_text(yaml.safe_dump(_cache()))
        if page == _MAKES_IT:
            self.plane.kubectl("delete", "localmodelcaches", "--all")

    def prepare(self, page: str) -> None:
        """Before each block of a page: what an earlier one took away is there again."""
        labels = {"accelerator": "gpu", "kserve/localmodel": "worker"}
        if self.plane.get("node", WORDS["NODE"]) is None:
            self.plane.add_node(WORDS["NODE"], labels)
        marks = [f"{label}={value}" for label, value in labels.items()]
        self.plane.kubectl("label", "--overwrite", "node", WORDS["NODE"], *marks)
        for namespace in (AGENTS_NAMESPACE, CONTROLLER_NAMESPACE):
            self.plane.apply(_pod(namespace))
        for group in _groups(page):
            self.plane.apply(group)
        if page != _MAKES_IT:
            self.plane.kubectl("apply", "-f", str(REPOSITORY / "deploy/examples/gpu-workers.yaml"))
            self.plane.apply(_cache())
            self._await_ready()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            found = self.plane.get("localmodelcache", WORDS["CACHE"]) or {}
            conditions = found.get("status", {}).get("conditions", ())
            ready = [one["status"] for one in conditions if one["type"] == "Ready"]
            copies = found.get("status", {}).get("copies", {})
            if ready == ["True"] and copies.get("total") == 1:
                return
            assert time.monotonic() < deadline, json.dumps(found.get("status"))
            time.sleep(0.1)

    def _start(self) -> None:
        self.callback(self.plane.clear)
        self._s3 = self.enter_context(S3Server())
        self._s3.make_bucket("my-bucket")
        self._s3.put("my-bucket", "my-model/config.json", b"{}")
        self._hub = self.enter_context(HubServer())
        files = {"config.json": b"{}", "model.safetensors": bytes(1 << 20)}
        self._hub.add("openai-community/gpt2", files)
        self._hub.add("meta-llama/Llama-3.1-8B", files, access="gated")
        self.enter_context(FleetThread(self.plane.admin_kubeconfig))
        controller = Controller(self.plane, self._folder, settings=_SETTINGS)
        self.callback(controller.stop)
        controller.start_ready()


def _groups(page: str) -> list[dict[str, object]]:
    """Node groups that the page itself shows."""
    return [
        item
        for block in blocks()
        if block.page == page and block.kind == "yaml"
        for item in yaml.safe_load_all(block.text)
        if item and item.get("kind") == "LocalModelNodeGroup"
    ]


def _cache() -> dict[str, object]:
    return {
        "apiVersion": API_VERSION,
        "kind": "LocalModelCache",
        "metadata": {"name": WORDS["CACHE"]},
        "spec": {
            "sourceModelUri": WORDS["URI"],
            "modelSize": "10Gi",
            "nodeGroups": ["gpu-workers"],
        },
    }


def _pod(namespace: str) -> dict[str, object]:
    """Never scheduled: there is no kubelet that would take leave of it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": WORDS["POD"], "namespace": namespace},
        "spec": {
            "nodeSelector": {"there-is": "none"},
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "one",
                    "image": "one",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
