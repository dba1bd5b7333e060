"""Where the page is served: on in the default overlay, with a Service; off beside KServe; its files are packed."""

import subprocess
import zipfile
from pathlib import Path
from typing import Any

import yaml

from controller.settings import ControllerSettings
from tests.support import binaries
from tests.support.cluster import REPOSITORY

Objects = dict[tuple[str, str], dict[str, Any]]


def built(overlay: str) -> Objects:
    kubectl = binaries.find(["kubectl"])["kubectl"]
    done = subprocess.run(
        [str(kubectl), "kustomize", f"deploy/overlays/{overlay}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    items = [item for item in yaml.safe_load_all(done.stdout) if item]
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


def shown(objects: Objects) -> bool:
    text = objects["ConfigMap", "localmodel-controller"]["data"]["controller.yaml"]
    return ControllerSettings(**(yaml.safe_load(text) or {})).ui


def test_the_default_overlay_serves_it_and_a_service_leads_there() -> None:
    objects = built("default")
    assert shown(objects)
    service = objects["Service", "localmodel-controller"]["spec"]
    template = objects["Deployment", "localmodel-controller"]["spec"]["template"]
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    (port,) = service["ports"]
    names = [p["name"] for c in template["spec"]["containers"] for p in c["ports"]]
    assert port["targetPort"] in names


def test_beside_kserve_it_is_off() -> None:
    objects = built("kserve")
    assert not shown(objects)
    assert ("Service", "localmodel-controller") not in objects


def test_its_files_are_in_the_wheel(tmp_path: Path) -> None:
    command = ["uv", "build", "--wheel", "--quiet", f"--out-dir={tmp_path}"]
    subprocess.run(command, cwd=REPOSITORY, timeout=60, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        found = {Path(name).name for name in packed.namelist() if "/ui/assets/" in name}
    assets = {path.name for path in (REPOSITORY / "controller/ui/assets").iterdir()}
    assert "index.html" in assets
    assert assets <= found
