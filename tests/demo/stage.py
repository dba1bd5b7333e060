"""What the demo plays on: a control plane, nodes, object stores with models, the controller and three agents."""

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from shared.domain.storage_key import storage_key
from tests.support.cluster import CREDENTIALS_NAMESPACE
from tests.support.controlplane import ControlPlane
from tests.support.programs import Agent, Controller
from tests.support.servers.hub import HubServer
from tests.support.servers.s3 import READER, S3Server

NODES: Final = ("node-a", "node-b", "node-c")
BIG_BYTES: Final = 1 << 30
_PART: Final = 1 << 26
API_VERSION: Final = "serving.kserve.io/v1alpha1"
# Slow enough to watch, and to be killed half-way, on any machine.
_BYTES_PER_SECOND: Final = 100 << 20


@dataclass(frozen=True)
class Model:
    """A model at its source. digests: SHA-256 by path, computed from what was uploaded."""

    uri: str
    digests: dict[str, str]
    size: str

    @property
    def folder(self) -> str:
        return storage_key(self.uri)


class Stage(ExitStack):
    """Everything that runs; leaving it ends everything."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.agents: dict[str, Agent] = {}

    def build(self) -> None:
        """Control plane, installation, nodes and stores, which fill meanwhile."""
        self.s3 = self.enter_context(S3Server())
        self.hub = self.enter_context(HubServer())
        filling = self.enter_context(ThreadPoolExecutor(1))
        self._models = filling.submit(
            lambda: {"magika": self._magika(), "big": self._big(), "tiny": self._tiny()}
        )
        self.control_plane = self.enter_context(ControlPlane(self.folder / "controlplane"))
        self.control_plane.apply_deploy()
        for node in NODES:
            self.control_plane.add_node(node, {"accelerator": "gpu"})
        self._store_credentials()

    @property
    def models(self) -> dict[str, Model]:
        """By the names that the caches get."""
        return self._models.result()

    def start_programs(self) -> None:
        self.controller = Controller(self.control_plane, self.folder / "programs")
        self.callback(self.controller.kill)
        self.controller.start()
        for node in NODES:
            agent = Agent(
                self.control_plane,
                self.folder / "nodes",
                node=node,
                settings={
                    "hf_endpoint": self.hub.endpoint,
                    "max_bytes_per_second": _BYTES_PER_SECOND,
                },
            )
            self.callback(agent.kill)
            self.agents[node] = agent
            agent.start()
        for program in (self.controller, *self.agents.values()):
            program.wait_ready(lambda program=program: program.ready, seconds=60)  # type: ignore[misc]

    def cache(self, name: str, uri: str, size: str, **spec: Any) -> dict[str, Any]:
        """A LocalModelCache for the demo's group."""
        return {
            "apiVersion": API_VERSION,
            "kind": "LocalModelCache",
            "metadata": {"name": name},
            "spec": {
                "sourceModelUri": uri,
                "modelSize": size,
                "nodeGroups": ["gpu-workers"],
                **spec,
            },
        }

    def _magika(self) -> Model:
        """Google's file type classifier: a real ONNX model that a PyPI package ships."""
        spec = find_spec("magika")
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeError("the package magika is not installed")
        folder = next((Path(spec.submodule_search_locations[0]) / "models").iterdir())
        digests = {}
        for file in sorted(folder.iterdir()):
            if file.is_file():
                self.s3.put("models", f"magika/{file.name}", file)
                digests[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        return Model("s3://models/magika", digests, "10Mi")

    def _big(self) -> Model:
        """One GiB that does not compress, and a small file beside it."""
        digest = hashlib.sha256()

        def parts() -> Iterator[bytes]:
            for _ in range(BIG_BYTES // _PART):
                part = os.urandom(_PART)
                digest.update(part)
                yield part

        self.s3.put_parts("models", "big/weights.safetensors", parts())
        config = b'{"architectures": ["Demo"]}'
        self.s3.put("models", "big/config.json", config)
        digests = {
            "weights.safetensors": digest.hexdigest(),
            "config.json": hashlib.sha256(config).hexdigest(),
        }
        return Model("s3://models/big", digests, "1100Mi")

    def _tiny(self) -> Model:
        """A repository on the Hub: weights by SHA-256 on its CDN, small files in git."""
        weights = os.urandom(3 << 20)
        files = {"model.safetensors": weights, "config.json": b"{}", "README.md": b"# tiny\n"}
        self.hub.add("acme/tiny", files)
        digests = {
            name: hashlib.sha256(content).hexdigest()
            for name, content in files.items()
            if name != "README.md"
        }
        return Model("hf://acme/tiny:main", digests, "8Mi")

    def _store_credentials(self) -> None:
        entry = {
            "type": "s3",
            "access_key_id": READER.access_key_id,
            "secret_access_key": READER.secret_access_key,
            "endpoint_url": self.s3.endpoint,
            "region": "us-east-1",
        }
        self.control_plane.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "storage-config", "namespace": CREDENTIALS_NAMESPACE},
                "stringData": {"demo": json.dumps(entry)},
            }
        )
