"""Planted secrets, which must be nowhere but in their Secret and in the memory of the agent that uses them."""

import base64
import json
import re
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.e2e.site import AGENT, API_VERSION, CONTROLLER, NODES, Site
from tests.support.cluster import AGENTS_NAMESPACE, CONTROLLER_NAMESPACE, CREDENTIALS_NAMESPACE
from tests.support.servers.hub import TOKEN
from tests.support.servers.s3 import NOBODY, READER

pytestmark = pytest.mark.timeout(300)
WRONG = "hf_canary_token_unknown_91b2"
PASSWORD = "web-password-canary-5d1e"
PRIVATE_KEY = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
CANARIES = (
    READER.secret_access_key,
    NOBODY.secret_access_key,
    NOBODY.access_key_id,
    TOKEN,
    WRONG,
    PASSWORD,
    # Of the lines of a PEM the first are much the same in all keys.
    *PRIVATE_KEY.splitlines()[3:6],
)
ACCOUNT = "canary"
# Of URLs that are as good as a credential while they last.
SIGNATURES = ("X-Amz-Signature", "signature=")
_KINDS = (
    "localmodelcaches,localmodelnamespacecaches,localmodelnodes,localmodelnodegroups,"
    "events,configmaps,pods,leases,pv,pvc"
)


@pytest.fixture(scope="module", autouse=True)
def filled(site: Site) -> None:
    """Each secret is used, and both stores refuse one."""
    site.hub.add("acme/gated", {"weights.bin": b"w" * (1 << 20)}, access="gated")
    site.s3.put("models", "canary/weights.bin", b"w" * (1 << 20))
    entries = {
        "canary-hub": {"type": "hf", "token": TOKEN},
        "canary-wrong": {"type": "hf", "token": WRONG},
    }
    patch = {"stringData": {name: json.dumps(entry) for name, entry in entries.items()}}
    scope = ("-n", CREDENTIALS_NAMESPACE)
    site.kubectl(
        "patch", "secret", "storage-config", *scope, "--type=merge", "-p", json.dumps(patch)
    )
    gated = "hf://acme/gated:main"
    site.add_cache("canary-s3", "s3://models/canary")
    site.add_cache("canary-hub", gated, storage={"key": "canary-hub"})
    site.add_cache("canary-refused", "s3://models/canary/", storage={"key": "nobody"})
    site.add_cache("canary-wrong", "hf://acme/gated", storage={"key": "canary-wrong"})
    add_account(site)
    site.hub.add("acme/gated-too", {"weights.bin": b"w" * (1 << 20)}, access="gated")
    site.s3.put("models", "canary-account/weights.bin", b"w" * (1 << 20))
    site.add_cache("canary-account-s3", "s3://models/canary-account", serviceAccountName=ACCOUNT)
    site.add_cache("canary-account-hub", "hf://acme/gated-too:main", serviceAccountName=ACCOUNT)
    site.add_cache("canary-account-gs", "gs://models/canary", serviceAccountName=ACCOUNT)
    for name in ("canary-s3", "canary-hub", "canary-account-s3", "canary-account-hub"):
        site.wait_ready(name)
    # The key has signed a request that nobody grants.
    site.wait(
        lambda: site.copies(NODES[0]).get("canary-account-gs", {}).get("attempts", 0) > 0,
        "gs:// tried",
    )
    for name in ("canary-refused", "canary-wrong"):
        site.wait(partial(stalled, site, name), f"{name} stalled")


def add_account(site: Site) -> None:
    """KServe's other way: a ServiceAccount that names a Secret for each kind of source."""
    gcloud = {
        "type": "service_account",
        "client_email": "canary@models.example",
        "private_key": PRIVATE_KEY,
        "token_uri": f"{site.web.url}/busy/token",
    }
    notes = {"s3-endpoint": site.s3.endpoint, "s3-region": "us-east-1"}
    contents = {
        "canary-aws": {
            "AWS_ACCESS_KEY_ID": READER.access_key_id,
            "AWS_SECRET_ACCESS_KEY": READER.secret_access_key,
        },
        "canary-hf": {"HF_TOKEN": TOKEN},
        "canary-gcloud": {"gcloud-application-credentials.json": json.dumps(gcloud)},
    }
    scope = {"namespace": CREDENTIALS_NAMESPACE}
    for name, content in contents.items():
        annotations = {f"serving.kserve.io/{key}": value for key, value in notes.items()}
        metadata = {"name": name, "annotations": annotations, **scope}
        site.control_plane.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": content}
        )
    site.control_plane.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": ACCOUNT, **scope},
            "secrets": [{"name": name} for name in contents],
        }
    )


def stalled(site: Site, name: str) -> bool:
    return site.condition(name, "Stalled").get("status") == "True"


def found_in(text: str) -> list[str]:
    encoded = [base64.b64encode(canary.encode()).decode() for canary in CANARIES]
    return [canary for canary in (*CANARIES, *encoded, *SIGNATURES) if canary in text]


def test_a_uri_with_a_password_is_refused_before_anything_keeps_it(site: Site) -> None:
    """The API server's answer repeats it to who typed it; the tests below look everywhere else."""
    spec = {
        "sourceModelUri": f"https://reader:{PASSWORD}@models.example/weights.bin",
        "modelSize": "1Gi",
        "nodeGroups": ["gpu-workers"],
    }
    cache = {"apiVersion": API_VERSION, "kind": "LocalModelCache", "spec": spec}
    named = {**cache, "metadata": {"name": "canary-password"}}
    answer = site.kubectl("apply", "-f", "-", input=json.dumps(named), check=False)
    assert "sourceModelUri must not hold credentials" in answer
    assert site.control_plane.get("localmodelcache", "canary-password") is None


def test_what_the_api_server_shows_holds_none_of_them(site: Site) -> None:
    assert found_in(site.kubectl("get", _KINDS, "-A", "-o", "yaml")) == []


@pytest.mark.parametrize(
    ("namespace", "selector"), [(AGENTS_NAMESPACE, AGENT), (CONTROLLER_NAMESPACE, CONTROLLER)]
)
def test_logs_metrics_and_the_state_page_hold_none_of_them(
    site: Site, namespace: str, selector: str
) -> None:
    for pod in site.pods(namespace, selector):
        log = site.kubectl("logs", "-n", namespace, pod["metadata"]["name"], "--all-containers")
        pages = [site.page(pod, path) for path in ("/metrics", "/debug/state", "/readyz")]
        assert all(pages)
        assert found_in("\n".join([log, *pages])) == []


def test_command_lines_and_environments_hold_none_of_them(site: Site) -> None:
    for node in NODES:
        pids = site.cluster.nodes[node].host_pids("localmodel-")
        assert pids
        for pid in pids:
            for file in ("cmdline", "environ"):
                content = Path(f"/proc/{pid}/{file}").read_bytes()
                assert found_in(content.decode(errors="replace")) == []


def test_no_disk_of_a_node_holds_them(site: Site) -> None:
    """The cache, containers' logs and file systems, and what the kubelet keeps for its pods."""
    patterns = [word for canary in CANARIES for word in ("-e", canary)]
    snapshots = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
    folders = ("/models", "/var/log/pods", "/var/lib/kubelet/pods", snapshots)
    for node in NODES:
        found = site.cluster.nodes[node].command(
            "sh", "-c", 'grep -rlFs "$@" || true', "grep", *patterns, *folders
        )
        assert found.split() == []


def test_a_program_that_dies_leaves_no_core(site: Site) -> None:
    """A core would hold the secrets that it had in memory; one that the kernel pipes to a handler minds no limit."""
    for node in NODES:
        pids = site.cluster.nodes[node].host_pids("localmodel-")
        assert pids
        for pid in pids:
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), limits
            # What may not be dumped belongs to root here, whoever runs it.
            assert Path(f"/proc/{pid}").stat().st_uid != 0
            assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
