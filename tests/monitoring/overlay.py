"""What kustomize makes of an overlay, with or without the component."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support import binaries
from tests.support.cluster import REPOSITORY


def built(folder: Path, overlay: str, *, monitored: bool = False) -> dict[tuple[str, str, str], Any]:  # fmt: skip
    """By kind, namespace and name."""
    place = folder / f"mine/{'with' if monitored else 'without'}"
    place.mkdir(parents=True)
    link = folder / "deploy"
    if not link.exists():
        link.symlink_to(REPOSITORY / "deploy")
    made = {"resources": [f"../../deploy/overlays/{overlay}"]}
    if monitored:
        made["components"] = ["../../deploy/monitoring"]
    (place / "kustomization.yaml").write_text(yaml.safe_dump(made))
    kubectl = binaries.find(["kubectl"])["kubectl"]
    text = subprocess.run(
        [kubectl, "kustomize", place], check=True, capture_output=True, text=True, timeout=30
    ).stdout
    return {
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item
        for item in yaml.safe_load_all(text)
    }
