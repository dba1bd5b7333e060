"""Manifests of README and documentation: a real API server takes them, and the programs understand what they say."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.node.settings import AgentSettings
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from agent.sources.registry import open_source
from controller.settings import ControllerSettings
from shared.domain.storage_key import storage_key
from shared.domain.uri import SourceUri
from shared.ops.settings import load
from tests.cluster import kserve
from tests.docs.blocks import Block, blocks
from tests.support.cluster import CREDENTIALS_NAMESPACE, REPOSITORY
from tests.support.controlplane import ControlPlane

YAML = [block for block in blocks() if block.kind.split()[:1] == ["yaml"]]
MANIFESTS = [block for block in YAML if block.kind == "yaml"]
TITLED = [block for block in YAML if block.kind != "yaml"]
# Kinds of platforms that are not here; what is written for them is marked as not run.
_ELSEWHERE = {"SecurityContextConstraints"}
_NOT_RUN = re.compile(r"not run here|\(written\)")


def objects(block: Block) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(block.text))


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """With kinds of KServe's services."""
    kserve.install(control_plane, kserve.INFERENCE, kserve.LLM)
    yield control_plane
    kserve.uninstall(control_plane)
    control_plane.clear()


@pytest.mark.parametrize("block", MANIFESTS, ids=str)
def test_the_api_server_takes_every_manifest(block: Block, cluster: ControlPlane) -> None:
    known = [item for item in objects(block) if item["kind"] not in _ELSEWHERE]
    if known != objects(block):
        assert _NOT_RUN.search((REPOSITORY / block.page).read_text()), f"{block}: not marked"
    if known:
        cluster.kubectl(
            "apply", "--dry-run=server", "--validate=strict", "-f", "-", input=yaml.safe_dump_all(known)
        )  # fmt: skip


@pytest.mark.parametrize("block", MANIFESTS, ids=str)
async def test_sources_and_credentials_are_as_the_agent_reads_them(block: Block) -> None:
    secrets = {
        item["metadata"]["name"]: item for item in objects(block) if item["kind"] == "Secret"
    }
    accounts = {
        item["metadata"]["name"]: [ref["name"] for ref in item["secrets"]]
        for item in objects(block)
        if item["kind"] == "ServiceAccount"
    }
    for item in objects(block):
        if not item["kind"].startswith("LocalModel") or "sourceModelUri" not in item["spec"]:
            continue
        spec = item["spec"]
        credentials = Credentials()
        if account := spec.get("serviceAccountName"):
            credentials = Credentials.merged(
                map(given, (secrets[name] for name in accounts[account]))
            )
        elif storage := spec.get("storage"):
            entry = yaml.safe_load(secrets["storage-config"]["stringData"][storage["key"]])
            credentials = Credentials.from_storage_config(entry, storage.get("parameters", {}))
        # It raises what a copy would stall with, such as credentials that hold nothing for this source.
        source = open_source(SourceUri.parse(spec["sourceModelUri"]), credentials, SourcePolicy())
        await source.close()


def given(secret: dict[str, Any]) -> Credentials:
    assert secret["metadata"]["namespace"] in (CREDENTIALS_NAMESPACE, "default")
    data = {key: text.encode() for key, text in secret["stringData"].items()}
    data |= {key: base64.b64decode(text) for key, text in secret.get("data", {}).items()}
    return Credentials.from_secret(data, secret["metadata"].get("annotations", {}))


@pytest.mark.parametrize("block", TITLED, ids=str)
def test_files_that_are_no_manifests_are_what_their_title_says(
    block: Block, control_plane: ControlPlane, folder: Path
) -> None:
    title = re.fullmatch(r'yaml title="([a-z.-]+)"', block.kind)
    match title and title[1]:
        case "agent.yaml" | "controller.yaml" as name:
            (folder / name).write_text(block.text)
            model = AgentSettings if name == "agent.yaml" else ControllerSettings
            load(model, file=folder / name, environment={})
        case "kustomization.yaml":
            place = folder / "mine/cluster"
            place.mkdir(parents=True)
            (folder / "deploy").symlink_to(REPOSITORY / "deploy")
            (place / "kustomization.yaml").write_text(block.text)
            assert control_plane.kubectl("kustomize", str(place))
        case "patch.yaml":
            (folder / "deploy").symlink_to(REPOSITORY / "deploy")
            (folder / "mine").mkdir()
            (folder / "mine/patch.yaml").write_text(block.text)
            wanted = {
                "resources": ["../deploy/overlays/default"],
                "patches": [{"path": "patch.yaml"}],
            }
            (folder / "mine/kustomization.yaml").write_text(yaml.safe_dump(wanted))
            built = control_plane.kubectl("kustomize", str(folder / "mine"))
            patch = yaml.safe_load(block.text)["spec"]["template"]["spec"]["containers"][0]
            (patched,) = (one for one in yaml.safe_load_all(built) if one["kind"] == "DaemonSet")
            (container,) = patched["spec"]["template"]["spec"]["containers"]
            names = {one["name"] for one in container["env"]}
            assert {one["name"] for one in patch["env"]} < names
        case "alertmanager.yaml":
            assert yaml.safe_load(block.text)["receivers"]
        case "argocd-cm.yaml":
            # Its Lua is run in test_docs_argo_cd.
            assert yaml.safe_load(block.text)["data"]
        case "prometheus.yaml":
            # promtool reads it in tests/monitoring.
            assert yaml.safe_load(block.text)["scrape_configs"]
        case _:
            pytest.fail(f"{block}: a block of an unknown kind {block.kind!r}")


@pytest.mark.parametrize("page", sorted({block.page for block in YAML}))
def test_folders_of_models_are_those_of_their_uris(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    uris = re.findall(r"[a-z0-9]+://[^\s'\"`,)]+", text)
    keys = set(re.findall(r"\bmodels/([0-9a-f]{16})\b", text))
    assert keys <= {storage_key(uri) for uri in uris}
