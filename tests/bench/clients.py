"""What each client is called with for each protocol, tuned as somebody who wants speed would."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.domain.storage_key import storage_key
from tests.bench.farm import BUCKET, COMMIT, OWNER
from tests.bench.measure import USED
from tests.bench.peers import HUB, KSERVE, RCLONE, S3FS, S5CMD

US, RUNNING = "localmodel", "localmodel (running)"
OURS = (US, RUNNING)
WARM = "warm"
_KEYS = {
    "AWS_ACCESS_KEY_ID": "BENCHBENCHBENCH00001",
    "AWS_SECRET_ACCESS_KEY": "not-looked-at",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_S3FS = """
import sys, s3fs
source, folder, endpoint = sys.argv[1:]
fs = s3fs.S3FileSystem(endpoint_url=endpoint)
fs.get(source, folder, recursive=True)
"""
_KSERVE = (
    "import sys; from kserve_storage import Storage; Storage.download(sys.argv[1], sys.argv[2])"
)
_HUB = """
import sys, huggingface_hub
repo, folder = sys.argv[1:]
huggingface_hub.snapshot_download(repo, local_dir=folder, max_workers=8)
"""


@dataclass(frozen=True)
class Server:
    """Where the models are, and what a client must trust. authority: None = nothing beyond the system's."""

    url: str
    authority: Path | None = None

    @property
    def trust(self) -> Mapping[str, str]:
        if self.authority is None:
            return {}
        return dict.fromkeys(
            ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"), str(self.authority)
        )


@dataclass(frozen=True)
class Client:
    """command: for a model and a folder. uri: of a model, as the agent's cache is named by it; None = files right there.

    together: one process fetches several models, each at `command(model, …)`'s place, rather than a process each.
    """

    name: str
    command: Callable[[str, Path], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    uri: Callable[[str], str] | None = None
    together: Callable[[Sequence[str], Path], list[str]] | None = None

    def place(self, model: str, folder: Path) -> Path:
        """Where the model's files are afterwards."""
        return folder / "models" / storage_key(self.uri(model)) if self.uri else folder


def ours(uri: Callable[[str], str], environment: Mapping[str, str]) -> list[Client]:
    """As a person starts it, and as it runs on a node: without the second that Python takes to start."""
    program = shutil.which("localmodel-agent", path=Path(sys.executable).parent)
    if program is None:
        raise RuntimeError("localmodel-agent is not installed: run `make setup` once")

    def running(models: Sequence[str], out: Path) -> list[str]:
        command = [sys.executable, "-m", "tests.bench.agent", str(out), str(out / USED)]
        return [*command, uri(WARM), *map(uri, models)]

    return [
        Client(
            US,
            lambda model, out: [program, "pull", uri(model), "--root", str(out), "--quiet"],
            environment,
            uri,
        ),
        Client(RUNNING, lambda model, out: running([model], out), environment, uri, running),
    ]


def s3(server: Server) -> list[Client]:
    common = {**_KEYS, **server.trust}
    endpoint = server.url
    return [
        *ours(lambda model: f"s3://{BUCKET}/{model}", {**common, "AWS_ENDPOINT_URL_S3": endpoint}),
        Client("s5cmd", lambda model, out: _s5cmd(endpoint, model, out), common),
        Client(
            "rclone",
            lambda model, out: _rclone(f"bench:{BUCKET}/{model}", out),
            {
                **common,
                "RCLONE_CONFIG_BENCH_TYPE": "s3",
                "RCLONE_CONFIG_BENCH_PROVIDER": "Other",
                "RCLONE_CONFIG_BENCH_ENV_AUTH": "true",
                "RCLONE_CONFIG_BENCH_ENDPOINT": endpoint,
                "RCLONE_CONFIG_BENCH_REGION": "us-east-1",
            },
        ),
        Client(
            "KServe",
            lambda model, out: [KSERVE.command, "-c", _KSERVE, f"s3://{BUCKET}/{model}", str(out)],
            {**common, "AWS_ENDPOINT_URL": endpoint},
        ),
        Client(
            "s3fs",
            lambda model, out: [
                S3FS.command,
                "-c",
                _S3FS,
                f"{BUCKET}/{model}/",
                f"{out}/",
                endpoint,
            ],
            common,
        ),
    ]


def s3_natively(server: Server) -> list[Client]:
    """Without those in Python, which would take minutes for tens of thousands of files."""
    return [client for client in s3(server) if client.name not in {KSERVE.name, S3FS.name}]


def gcs(server: Server) -> list[Client]:
    environment = {"STORAGE_EMULATOR_HOST": server.url, "NO_GCE_CHECK": "true"}
    return [
        *ours(lambda model: f"gs://{BUCKET}/{model}", environment),
        Client(
            "rclone",
            lambda model, out: _rclone(f"bench:{BUCKET}/{model}", out),
            {
                "RCLONE_CONFIG_BENCH_TYPE": "google cloud storage",
                "RCLONE_CONFIG_BENCH_ANONYMOUS": "true",
                "RCLONE_CONFIG_BENCH_ENDPOINT": f"{server.url}/storage/v1/",
            },
        ),
        Client(
            "KServe",
            lambda model, out: [KSERVE.command, "-c", _KSERVE, f"gs://{BUCKET}/{model}", str(out)],
            environment,
        ),
    ]


def hub(server: Server) -> list[Client]:
    environment = {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1"}
    return [
        *ours(lambda model: f"hf://{OWNER}/{model}:{COMMIT}", environment),
        Client(
            "huggingface_hub",
            lambda model, out: [HUB.command, "-c", _HUB, f"{OWNER}/{model}", str(out)],
            {**environment, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        ),
        Client(
            "KServe",
            lambda model, out: [KSERVE.command, "-c", _KSERVE, f"hf://{OWNER}/{model}", str(out)],
            {**environment, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        ),
    ]


def _s5cmd(endpoint: str, model: str, out: Path) -> list[str]:
    options = ["--concurrency=16", "--part-size=64"]
    source = f"s3://{BUCKET}/{model}/*"
    return [S5CMD.command, f"--endpoint-url={endpoint}", "cp", *options, source, f"{out}/"]


def _rclone(source: str, out: Path) -> list[str]:
    options = ["--multi-thread-streams=4", "--multi-thread-chunk-size=64M", "--transfers=32"]
    return [RCLONE.command, "copy", *options, "--checkers=16", source, str(out)]
