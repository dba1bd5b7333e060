"""Models in the stores of a site, and what their files must be."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.e2e.site import Site

_BIG_BYTES = 400 << 20
_PART = 32 << 20


@dataclass(frozen=True)
class Model:
    """SHA-256 by path."""

    uri: str
    digests: dict[str, str]


def magika() -> dict[str, bytes]:
    """Google's file type classifier: a real ONNX model that a PyPI package ships."""
    spec = find_spec("magika")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package magika is not installed")
    folder = next((Path(spec.submodule_search_locations[0]) / "models").iterdir())
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def put_onnx(site: Site) -> Model:
    """Behind S3 signatures."""
    files = magika()
    for name, content in files.items():
        site.s3.put("models", f"magika/{name}", content)
    return Model("s3://models/magika", _digests(files))


def put_tiny(site: Site) -> Model:
    """On the Hub."""
    files = {"model.safetensors": os.urandom(3 << 20), "config.json": b"{}"}
    site.hub.add("acme/tiny", files)
    return Model("hf://acme/tiny:main", _digests(files))


def put_plain(site: Site) -> Model:
    """One file on a web server."""
    files = {"weights.bin": os.urandom(1 << 20)}
    site.web.put("weights.bin", files["weights.bin"])
    return Model(f"{site.web.url}/weights.bin", _digests(files))


def put_big(site: Site, name: str) -> Model:
    """Takes each node a quarter of a minute."""
    digest = hashlib.sha256()
    part = os.urandom(_PART)

    def parts() -> Iterator[bytes]:
        for number in range(_BIG_BYTES // _PART):
            block = number.to_bytes(8, "big") + part[8:]
            digest.update(block)
            yield block

    site.s3.put_parts("models", f"{name}/weights.bin", parts())
    return Model(f"s3://models/{name}", {"weights.bin": digest.hexdigest()})


def _digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
