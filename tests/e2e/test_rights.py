"""What one stolen node can do: the requests of SECURITY.md with the token that lies on that node."""

import json

import pytest
import yaml

from tests.cluster import rights
from tests.cluster.rights import Identity, Request
from tests.cluster.test_rights_agent import MAY, MAY_NOT
from tests.e2e.site import NODES, Site
from tests.support.cluster import CREDENTIALS_NAMESPACE

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def thief(site: Site) -> Identity:
    """Whoever is root on the first node, and finds the agent's token there."""
    pod = site.agent_pod(NODES[0])
    node = site.cluster.nodes[NODES[0]]
    place = f"/var/lib/kubelet/pods/{pod['metadata']['uid']}/volumes/kubernetes.io~projected"
    token = node.command("sh", "-c", f"cat {place}/kube-api-access-*/token").strip()
    config = yaml.safe_load(site.control_plane.admin_kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = site.control_plane.folder / "thief.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    rights.furnish(site.control_plane)
    return Identity(path)


def here(request: Request) -> Request:
    """The same request on this cluster's nodes."""
    text = json.dumps(request)
    for name, node in ((rights.MINE, NODES[0]), (rights.OTHER, NODES[1])):
        text = text.replace(name, node)
    method, path, body = json.loads(text)
    return method, path, body


@pytest.mark.parametrize("what", MAY_NOT)
def test_the_token_of_a_stolen_node_does_not(site: Site, thief: Identity, what: str) -> None:
    status, message = thief.request(*rights.current(site.control_plane, here(MAY_NOT[what])))
    assert status == 403, message


@pytest.mark.parametrize("what", [name for name in MAY if name != "write its own status"])
def test_the_token_of_a_stolen_node_does(site: Site, thief: Identity, what: str) -> None:
    """SECURITY.md owns up to these."""
    status, message = thief.request(*rights.current(site.control_plane, here(MAY[what])))
    assert status in (200, 201), message


def test_it_reads_secrets_where_they_are_meant_to_be_and_cannot_list_them(
    site: Site, thief: Identity
) -> None:
    assert thief.request("GET", rights.secrets(CREDENTIALS_NAMESPACE, "storage-config"))[0] == 200
    assert thief.request("GET", rights.secrets(CREDENTIALS_NAMESPACE))[0] == 403
