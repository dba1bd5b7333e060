"""What `pull` loads before it does anything: a model of a few files should not wait for libraries that it does not need."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.component.agent.terminal import Cli

# Each takes 50 to 500 ms.
LARGE = {
    "aiobotocore",
    "aiohttp",
    "botocore",
    "cryptography",
    "fsspec",
    "gcsfs",
    "google",
    "grpc",
    "httpx2",
    "huggingface_hub",
    "kubernetes_asyncio",
    "prometheus_client",
    "rich",
    "s3fs",
    "structlog",
}


@pytest.mark.parametrize(
    ("uri", "needed"),
    [
        ("file:///nowhere", set()),
        ("http://127.0.0.1:9/file", {"aiohttp"}),
        ("hf://nobody/nothing", {"huggingface_hub", "httpx2", "aiohttp"}),
        ("s3://nobody/nothing", {"s3fs", "fsspec", "aiobotocore", "botocore", "aiohttp", "httpx2"}),
        ("gs://nobody/nothing", None),
    ],
)
def test_pull_loads_only_what_its_source_needs(
    tmp_path: Path, uri: str, needed: set[str] | None
) -> None:
    environment = Cli(
        HF_ENDPOINT="http://127.0.0.1:9",
        AWS_ENDPOINT_URL_S3="http://127.0.0.1:9",
        STORAGE_EMULATOR_HOST="http://127.0.0.1:9",
    ).environment
    command = ["-X", "importtime", "-m", "agent.cli", "pull", uri, "--root", str(tmp_path)]
    said = subprocess.run(
        [sys.executable, *command, "--retries", "0", "--quiet", "--anonymous"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    ).stderr
    loaded = set(re.findall(r"\| +(\w+)", said))
    assert "agent" in said
    assert "Error:" in said
    if needed is None:
        needed = LARGE - {"kubernetes_asyncio", "huggingface_hub", "s3fs", "structlog", "rich"}
    assert loaded & LARGE <= needed
