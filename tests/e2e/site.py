"""A cluster of real nodes with our installation on it, stores that it loads models from, and a user's hands."""

import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import yaml

from shared.domain.storage_key import storage_key
from tests.support.cluster import AGENTS_NAMESPACE, CONTROLLER_NAMESPACE, CREDENTIALS_NAMESPACE
from tests.support.nodes import images
from tests.support.nodes.cluster import RealCluster
from tests.support.nodes.network import HOST
from tests.support.processes import wait_until
from tests.support.servers.hub import HubServer
from tests.support.servers.s3 import NOBODY, READER, Keys, S3Server
from tests.support.servers.web import WebServer

OVERLAY: Final = "deploy/overlays/default"
NODES: Final = ("node-a", "node-b")
SMALL: Final = "node-c"
SMALL_MIB: Final = 256
API_VERSION: Final = "serving.kserve.io/v1alpha1"
WORKER: Final = {"kserve/localmodel": "worker", "accelerator": "gpu"}
AGENT: Final = "app.kubernetes.io/name=localmodel-agent"
CONTROLLER: Final = "app.kubernetes.io/name=localmodel-controller"
# Slow enough to be interrupted half-way on any machine.
BYTES_PER_SECOND: Final = 24 << 20
_SECONDS: Final = 90.0


class Site(ExitStack):
    """`with Site(folder) as site:` the nodes are Ready and nothing of ours is installed yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __enter__(self) -> "Site":
        super().__enter__()
        try:
            archives = images.build_all()
            self.cluster = self.enter_context(RealCluster(self._folder, archives))
            self.control_plane = self.cluster.control_plane
            self.kubectl = self.control_plane.kubectl
            self.s3 = self.enter_context(S3Server(address=HOST))
            self.hub = self.enter_context(HubServer(address=HOST))
            self.web = self.enter_context(WebServer(address=HOST))
            for node in NODES:
                self.cluster.add_node(node, labels=WORKER)
            self.cluster.add_node(SMALL, disk_mib=SMALL_MIB, labels={"accelerator": "small"})
        except BaseException:
            self.close()
            raise
        return self

    def install(self) -> None:
        """As the README says, and one group for the equal nodes, another for the small one."""
        self.control_plane.apply_deploy(OVERLAY)
        self.set_up()
        self.add_group("gpu-workers", accelerator="gpu")
        self.add_group("small", accelerator="small")

    def set_up(self, *, namespace_credentials: str = "shared", **controller: Any) -> None:
        """Settings that make tests wait less, and access to the bucket; returns when all programs run."""
        self.configure(
            "agent",
            AGENTS_NAMESPACE,
            hf_endpoint=self.hub.endpoint,
            max_bytes_per_second=BYTES_PER_SECOND,
            heartbeat_seconds=5,
            check_seconds=3,
            progress_seconds=1,
            part_size_mib=4,  # a small model has as many parts as a large one has otherwise
            stalled_retry_seconds=15,
            credentials_recheck_seconds=2,
            namespace_credentials=namespace_credentials,
        )
        settings = {"removal_grace_seconds": 0, **controller}
        self.configure("controller", CONTROLLER_NAMESPACE, **settings)
        self.wait_installed()
        self.control_plane.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "storage-config", "namespace": CREDENTIALS_NAMESPACE},
                "stringData": {
                    "reader": json.dumps(self.entry(READER)),
                    "nobody": json.dumps(self.entry(NOBODY)),
                },
            }
        )

    def entry(self, keys: Keys) -> dict[str, str]:
        """Of `storage-config`."""
        return {
            "type": "s3",
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "endpoint_url": self.s3.endpoint,
            "region": "us-east-1",
        }

    def configure(self, program: str, namespace: str, **settings: Any) -> None:
        """Change the program's ConfigMap and restart its pods, as its first lines say."""
        name = f"localmodel-{program}"
        data = {"data": {f"{program}.yaml": yaml.safe_dump(settings)}}
        patch = ["--type=merge", "-p", json.dumps(data)]
        self.kubectl("patch", "configmap", name, "-n", namespace, *patch)
        kind = {"agent": "daemonset", "controller": "deployment"}[program]
        self.kubectl("rollout", "restart", kind, name, "-n", namespace)

    def wait_installed(self) -> None:
        for kind, namespace in (
            ("deployment/localmodel-controller", CONTROLLER_NAMESPACE),
            ("daemonset/localmodel-agent", AGENTS_NAMESPACE),
        ):
            self.wait_rollout(kind, namespace)

    def wait_rollout(self, what: str, namespace: str) -> None:
        def done() -> bool:
            command = ("rollout", "status", what, "-n", namespace, "--watch=false")
            answer = self.kubectl(*command, check=False)
            return "successfully rolled out" in answer

        self.wait(done, f"{what} rolled out")

    def add_group(self, name: str, **labels: str) -> None:
        requirements = [{"key": k, "operator": "In", "values": [v]} for k, v in labels.items()]
        terms = [{"matchExpressions": requirements}]
        claim = {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "local-storage",
            "resources": {"requests": {"storage": "1Ti"}},
        }
        volume = {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "local-storage",
            "capacity": {"storage": "1Ti"},
            "local": {"path": "/models"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        }
        spec = {
            "storageLimit": "1Ti",
            "persistentVolumeSpec": volume,
            "persistentVolumeClaimSpec": claim,
        }
        self._apply("LocalModelNodeGroup", name, None, spec)

    def add_cache(
        self,
        name: str,
        uri: str,
        *,
        group: str = "gpu-workers",
        size: str = "64Mi",
        namespace: str | None = None,
        **spec: Any,
    ) -> None:
        if uri.startswith("s3:") and "serviceAccountName" not in spec:
            spec.setdefault("storage", {"key": "reader"})
        kind = "LocalModelNamespaceCache" if namespace else "LocalModelCache"
        wanted = {"sourceModelUri": uri, "modelSize": size, "nodeGroups": [group], **spec}
        self._apply(kind, name, namespace, wanted)

    def delete_cache(self, name: str, *, namespace: str | None = None) -> None:
        kind, scope = _kind(namespace)
        self.kubectl("delete", kind, name, *scope, "--timeout=50s")

    def status(self, name: str, *, namespace: str | None = None) -> dict[str, Any]:
        kind, _ = _kind(namespace)
        found = self.control_plane.get(kind, name, namespace=namespace) or {}
        status: dict[str, Any] = found.get("status", {})
        return status

    def condition(
        self, name: str, kind: str = "Ready", *, namespace: str | None = None
    ) -> dict[str, Any]:
        found: dict[str, dict[str, Any]] = {
            item["type"]: item
            for item in self.status(name, namespace=namespace).get("conditions", [])
        }
        return found.get(kind, {})

    def wait_ready(self, name: str, *, namespace: str | None = None) -> None:
        """By `kubectl wait`, as a person's script does."""
        kind, scope = _kind(namespace)
        command = ("wait", kind, name, *scope, "--for=condition=Ready", "--timeout=5s")
        self.wait(lambda: "condition met" in self.kubectl(*command, check=False), f"{name} Ready")

    def copies(self, node: str) -> dict[str, dict[str, Any]]:
        """What a node's agent says of each cache."""
        found = self.control_plane.get("localmodelnode", node) or {}
        entries = found.get("status", {}).get("models", [])
        return {entry["key"]: entry for entry in entries}

    def bytes_done(self, node: str, cache: str) -> int:
        return int(self.copies(node).get(cache, {}).get("bytesDone", 0))

    def bytes_moved(self, node: str) -> float:
        """Over the network, by the running agent since its start."""
        lines = self.page(self.agent_pod(node), "/metrics").splitlines()
        name = "localmodel_agent_transferred_bytes_total"
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def page(self, pod: Mapping[str, Any], path: str) -> str:
        """What a program of ours answers on its health port; "" when it does not."""
        port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
        url = f"http://{pod['status'].get('podIP')}:{port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # our own pod
                text: str = answer.read().decode()
                return text
        except OSError:
            return ""

    def served(self, node: str, uri: str) -> dict[str, str]:
        """SHA-256 of what lies on the node for a source, by path."""
        folder = f"/models/models/{storage_key(uri)}"
        command = f"cd {folder} 2>/dev/null && find . -type f -exec sha256sum {{}} +"
        lines = self.cluster.nodes[node].command("sh", "-c", f"{command} || true").splitlines()
        return {line.split("  ./", 1)[1]: line.split()[0] for line in lines}

    def write(self, node: str, path: str, content: bytes, *, owner: int) -> None:
        """A file on the node's disk, its folders with it, as user and group `owner`."""
        source = self._folder / "written"
        source.write_bytes(content)
        make = f"mkdir -p {Path(path).parent} && cp {source} {path} && chown -R {owner}:{owner} {Path(path).parent}"
        self.cluster.nodes[node].command("sh", "-c", make)

    def agent_pod(self, node: str) -> dict[str, Any]:
        """The one that is there to stay; while one replaces another there may be none for a moment."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [
                pod
                for pod in self.pods(AGENTS_NAMESPACE, AGENT)
                if pod["spec"].get("nodeName") == node
                and "deletionTimestamp" not in pod["metadata"]
            ]
            return len(found) == 1

        self.wait(there, f"an agent on {node}")
        return found[0]

    def pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        text = self.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json")
        found: list[dict[str, Any]] = json.loads(text)["items"]
        return found

    def wait(
        self,
        condition: Callable[[], bool],
        what: str,
        *,
        seconds: float = _SECONDS,
        interval: float = 0.3,
    ) -> float:
        """How long it took; AssertionError shows the cluster."""
        started = time.monotonic()
        try:
            wait_until(condition, seconds=seconds, what=what, interval=interval)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self._describe()}") from None
        return time.monotonic() - started

    def _apply(self, kind: str, name: str, namespace: str | None, spec: Mapping[str, Any]) -> None:
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        self.control_plane.apply(
            {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": dict(spec)}
        )

    def _describe(self) -> str:
        kinds = "localmodelcaches,localmodelnamespacecaches,localmodelnodes,pods"
        text = self.kubectl("get", kinds, "-A", "-o", "wide", check=False)
        for namespace, selector in ((AGENTS_NAMESPACE, AGENT), (CONTROLLER_NAMESPACE, CONTROLLER)):
            logs = ("logs", "-n", namespace, "-l", selector, "--prefix", "--tail=15")
            text += self.kubectl(*logs, check=False)
        nodes = self.kubectl("get", "localmodelnodes", "-o", "yaml", check=False)
        return f"{text}\n{nodes[-6000:]}"


def _kind(namespace: str | None) -> tuple[str, tuple[str, ...]]:
    return ("localmodelnamespacecache", ("-n", namespace)) if namespace else ("localmodelcache", ())
