"""What an agent may do with its own token, and that it may do nothing else."""

import pytest

from tests.cluster.rights import (
    DRY,
    EVENTS,
    FOREIGN_EVENT,
    LEASES,
    MINE,
    OTHER,
    ROLES,
    SECRET,
    SERVING,
    SPEC,
    STATUS,
    Identity,
    Request,
    binding,
    current,
    event,
    inhabit,
    lease,
    local_model_node,
    secrets,
)
from tests.support.cluster import AGENTS_NAMESPACE, CONTROLLER_NAMESPACE, CREDENTIALS_NAMESPACE
from tests.support.controlplane import ControlPlane
from tests.support.processes import wait_until

MAY: dict[str, Request] = {
    "see its work list": ("GET", f"{SERVING}/localmodelnodes/{MINE}", None),
    "list LocalModelNodes": ("GET", f"{SERVING}/localmodelnodes", None),
    "write its own status": ("PATCH", f"{SERVING}/localmodelnodes/{MINE}/status", STATUS),
    "see its node": ("GET", f"/api/v1/nodes/{MINE}", None),
    "read a named secret": ("GET", secrets(CREDENTIALS_NAMESPACE, SECRET), None),
    "read a named service account": (
        "GET",
        f"/api/v1/namespaces/{CREDENTIALS_NAMESPACE}/serviceaccounts/reader",
        None,
    ),
    "see its lease": ("GET", f"{LEASES.format(AGENTS_NAMESPACE)}/{MINE}", None),
    "renew its lease": ("PUT", f"{LEASES.format(AGENTS_NAMESPACE)}/{MINE}", lease(MINE)),
    "record an event": ("POST", EVENTS.format("default") + DRY, event("default")),
    "count another's event up": (
        "PATCH",
        f"{EVENTS.format('default')}/{FOREIGN_EVENT}{DRY}",
        {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}},
    ),
}

MAY_NOT: dict[str, Request] = {
    "write another node's status": ("PATCH", f"{SERVING}/localmodelnodes/{OTHER}/status", STATUS),
    "write its own work list": ("PATCH", f"{SERVING}/localmodelnodes/{MINE}", SPEC),
    "write another node's work list": ("PATCH", f"{SERVING}/localmodelnodes/{OTHER}", SPEC),
    "delete its LocalModelNode": ("DELETE", f"{SERVING}/localmodelnodes/{MINE}", None),
    "make a LocalModelNode": (
        "POST",
        f"{SERVING}/localmodelnodes",
        local_model_node("rights-3"),
    ),
    "see caches": ("GET", f"{SERVING}/localmodelcaches", None),
    "see namespace caches": ("GET", f"{SERVING}/localmodelnamespacecaches", None),
    "see node groups": ("GET", f"{SERVING}/localmodelnodegroups", None),
    "write a cache's status": (
        "PATCH",
        f"{SERVING}/localmodelcaches/my-model-cache/status",
        {"status": {"copies": {"available": 1, "total": 1}}},
    ),
    "list secrets": ("GET", secrets(CREDENTIALS_NAMESPACE), None),
    "watch secrets": ("GET", secrets(CREDENTIALS_NAMESPACE) + "?watch=true", None),
    "list all secrets": ("GET", "/api/v1/secrets", None),
    "read secrets of others": ("GET", secrets("default", SECRET), None),
    "read secrets of the system": ("GET", secrets("kube-system", SECRET), None),
    "change a secret": (
        "PATCH",
        secrets(CREDENTIALS_NAMESPACE, SECRET),
        {"metadata": {"labels": {"a": "b"}}},
    ),
    "delete a secret": ("DELETE", secrets(CREDENTIALS_NAMESPACE, SECRET), None),
    "list service accounts": (
        "GET",
        f"/api/v1/namespaces/{CREDENTIALS_NAMESPACE}/serviceaccounts",
        None,
    ),
    "mint tokens of a service account": (
        "POST",
        f"/api/v1/namespaces/{CREDENTIALS_NAMESPACE}/serviceaccounts/reader/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    ),
    "renew another node's lease": (
        "PUT",
        f"{LEASES.format(AGENTS_NAMESPACE)}/{OTHER}",
        lease(OTHER),
    ),
    "make a lease of another node": ("POST", LEASES.format(AGENTS_NAMESPACE), lease("rights-3")),
    "delete its lease": ("DELETE", f"{LEASES.format(AGENTS_NAMESPACE)}/{MINE}", None),
    "list leases": ("GET", LEASES.format(AGENTS_NAMESPACE), None),
    "see the leader": ("GET", f"{LEASES.format(CONTROLLER_NAMESPACE)}/localmodel-controller", None),
    "take the leader's lease": (
        "PUT",
        f"{LEASES.format(CONTROLLER_NAMESPACE)}/localmodel-controller",
        lease("localmodel-controller", CONTROLLER_NAMESPACE),
    ),
    "renew the kubelet's lease": (
        "POST",
        LEASES.format("kube-node-lease"),
        lease(MINE, "kube-node-lease"),
    ),
    "delete events": ("DELETE", f"{EVENTS.format('default')}/{FOREIGN_EVENT}", None),
    "read events": ("GET", EVENTS.format("default"), None),
    "record events elsewhere": ("POST", EVENTS.format("kube-system"), event("kube-system")),
    "list nodes": ("GET", "/api/v1/nodes", None),
    "relabel its node": ("PATCH", f"/api/v1/nodes/{MINE}", {"metadata": {"labels": {"a": "b"}}}),
    "write its node's status": ("PATCH", f"/api/v1/nodes/{MINE}/status", {"status": {}}),
    "see pods": ("GET", "/api/v1/pods", None),
    "see configuration": ("GET", f"/api/v1/namespaces/{AGENTS_NAMESPACE}/configmaps", None),
    "see volumes": ("GET", "/api/v1/persistentvolumes", None),
    "make itself an admin": (
        "POST",
        f"{ROLES}/clusterrolebindings",
        binding("localmodel-agent", AGENTS_NAMESPACE),
    ),
}


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> ControlPlane:
    inhabit(control_plane)
    return control_plane


@pytest.fixture(scope="module")
def agent(cluster: ControlPlane) -> Identity:
    """The agent on the first node."""
    return Identity.of(cluster, "localmodel-agent", AGENTS_NAMESPACE, node=MINE)


@pytest.mark.parametrize("what", MAY)
def test_an_agent_may(cluster: ControlPlane, agent: Identity, what: str) -> None:
    status, message = agent.request(*current(cluster, MAY[what]))
    assert status in (200, 201), message


@pytest.mark.parametrize("what", MAY_NOT)
def test_an_agent_may_not(cluster: ControlPlane, agent: Identity, what: str) -> None:
    status, message = agent.request(*current(cluster, MAY_NOT[what]))
    assert status == 403, message


def test_a_refused_agent_reads_which_node_it_runs_on(agent: Identity) -> None:
    _, message = agent.request("PATCH", f"{SERVING}/localmodelnodes/{OTHER}/status", STATUS)
    assert f"the status of LocalModelNode {OTHER}" in message
    assert f"this one runs on {MINE}" in message


def test_a_token_of_no_node_speaks_for_none(cluster: ControlPlane) -> None:
    stray = Identity.of(cluster, "localmodel-agent", AGENTS_NAMESPACE)
    status, message = stray.request("PATCH", f"{SERVING}/localmodelnodes/{MINE}/status", STATUS)
    assert status == 403, message
    status, message = stray.request(*current(cluster, MAY["renew its lease"]))
    assert status == 403, message


def test_a_token_ends_with_its_node(cluster: ControlPlane) -> None:
    cluster.add_node("rights-gone")
    ghost = Identity.of(cluster, "localmodel-agent", AGENTS_NAMESPACE, node="rights-gone")
    assert ghost.request("GET", f"{SERVING}/localmodelnodes")[0] == 200
    cluster.remove_node("rights-gone")
    # The API server remembers a good token for ten seconds.
    wait_until(
        lambda: ghost.request("GET", f"{SERVING}/localmodelnodes")[0] == 401,
        seconds=20,
        what="the token is refused",
    )
