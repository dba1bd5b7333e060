"""What people may do by the roles that deploy/ brings."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.rights import OTHER, SERVING, STATUS, Identity, binding, inhabit
from tests.support.controlplane import ControlPlane
from tests.support.processes import wait_until


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> ControlPlane:
    inhabit(control_plane)
    return control_plane


def test_override_lets_somebody_else_write_the_status(cluster: ControlPlane) -> None:
    path = f"{SERVING}/localmodelnodes/{OTHER}/status"
    cluster.kubectl("create", "serviceaccount", "rescuer", "-n", "default")
    account = {"kind": "ServiceAccount", "name": "rescuer", "namespace": "default"}
    role: dict[str, Any] = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "rights-rescuer"},
        "rules": [
            {
                "apiGroups": ["serving.kserve.io"],
                "resources": ["localmodelnodes/status"],
                "verbs": ["patch"],
            }
        ],
    }
    bound = {
        **binding("rescuer", "default"),
        "metadata": {"name": "rights-rescuer"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "rights-rescuer",
        },
        "subjects": [account],
    }
    try:
        cluster.apply(role, bound)
        rescuer = Identity.of(cluster, "rescuer", "default")
        wait_until(
            lambda: "is written by the agent" in rescuer.request("PATCH", path, STATUS)[1],
            seconds=10,
            what="the policy, no longer RBAC, refuses",
        )
        role["rules"][0]["verbs"] = ["patch", "override"]
        cluster.apply(role)
        wait_until(
            lambda: rescuer.request("PATCH", path, STATUS)[0] == 200,
            seconds=10,
            what="the status is written",
        )
    finally:
        cluster.kubectl("delete", "clusterrole,clusterrolebinding", "rights-rescuer")
        cluster.kubectl("delete", "serviceaccount", "rescuer", "-n", "default")


@pytest.fixture(scope="module")
def team(cluster: ControlPlane) -> Iterator[str]:
    """A namespace with the accounts `viewer` and `editor`, which hold these roles in it."""
    name = "rights-team"
    cluster.kubectl("create", "namespace", name)
    for account, role in (("viewer", "view"), ("editor", "edit")):
        cluster.kubectl("create", "serviceaccount", account, "-n", name)
        cluster.kubectl(
            "create", "rolebinding", account, "-n", name, f"--clusterrole={role}",
            f"--serviceaccount={name}:{account}",
        )  # fmt: skip
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_who_views_a_namespace_sees_its_caches_and_who_edits_it_makes_them(
    cluster: ControlPlane, team: str
) -> None:
    path = f"{SERVING}/namespaces/{team}/localmodelnamespacecaches"
    cache = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelNamespaceCache",
        "metadata": {"name": "rights", "namespace": team},
        "spec": {"sourceModelUri": "s3://b/k", "modelSize": "1", "nodeGroups": ["gpu-workers"]},
    }
    viewer, editor = (Identity.of(cluster, name, team) for name in ("viewer", "editor"))
    # The roles are joined by kube-controller-manager, some moments after the installation.
    wait_until(
        lambda: editor.request("POST", path, cache)[0] in (201, 409), seconds=20, what="edit"
    )
    assert viewer.request("GET", path)[0] == 200
    assert viewer.request("DELETE", f"{path}/rights")[0] == 403
    elsewhere = {**cache, "metadata": {"name": "rights", "namespace": "default"}}
    default = f"{SERVING}/namespaces/default/localmodelnamespacecaches"
    assert editor.request("POST", default, elsewhere)[0] == 403
    assert editor.request("GET", f"{SERVING}/localmodelcaches")[0] == 403
    assert editor.request("DELETE", f"{path}/rights")[0] == 200
