"""What the controller may do with its own token, and that it may do nothing else."""

import pytest

from tests.cluster.rights import (
    CRDS,
    DRY,
    EVENTS,
    LEASES,
    MINE,
    POLICIES,
    ROLES,
    SECRET,
    SERVING,
    SPEC,
    STATUS,
    WEBHOOKS,
    Identity,
    Request,
    binding,
    current,
    event,
    inhabit,
    lease,
    secrets,
)
from tests.support.cluster import AGENTS_NAMESPACE, CONTROLLER_NAMESPACE, CREDENTIALS_NAMESPACE
from tests.support.controlplane import ControlPlane

MAY: dict[str, Request] = {
    "list caches": ("GET", f"{SERVING}/localmodelcaches", None),
    "list namespace caches": ("GET", f"{SERVING}/localmodelnamespacecaches", None),
    "list node groups": ("GET", f"{SERVING}/localmodelnodegroups", None),
    "list LocalModelNodes": ("GET", f"{SERVING}/localmodelnodes", None),
    "list nodes": ("GET", "/api/v1/nodes", None),
    "list signs of life": ("GET", LEASES.format(AGENTS_NAMESPACE), None),
    "list volumes": ("GET", "/api/v1/persistentvolumes", None),
    "list claims": ("GET", "/api/v1/persistentvolumeclaims", None),
    "see the installed CRDs": ("GET", CRDS, None),
    "see webhooks": ("GET", WEBHOOKS, None),
    "write work lists": ("PATCH", f"{SERVING}/localmodelnodes/{MINE}", SPEC),
    "set finalizers": (
        "PATCH",
        f"{SERVING}/localmodelcaches/my-model-cache{DRY}",
        {"metadata": {"finalizers": ["localmodel.kserve.io/finalizer"]}},
    ),
    "write a cache's status": (
        "PATCH",
        f"{SERVING}/localmodelcaches/my-model-cache/status{DRY}",
        {"status": {"observedGeneration": 1}},
    ),
    "write a namespace cache's status": (
        "PATCH",
        f"{SERVING}/namespaces/default/localmodelnamespacecaches/team-model/status{DRY}",
        {"status": {"observedGeneration": 1}},
    ),
    "write a group's status": (
        "PATCH",
        f"{SERVING}/localmodelnodegroups/gpu-workers/status{DRY}",
        {"status": {"used": "0"}},
    ),
    "renew the leader's lease": (
        "PUT",
        f"{LEASES.format(CONTROLLER_NAMESPACE)}/localmodel-controller",
        lease("localmodel-controller", CONTROLLER_NAMESPACE),
    ),
    "record an event anywhere": ("POST", EVENTS.format("kube-public") + DRY, event("kube-public")),
}

MAY_NOT: dict[str, Request] = {
    "read credentials": ("GET", secrets(CREDENTIALS_NAMESPACE, SECRET), None),
    "list credentials": ("GET", secrets(CREDENTIALS_NAMESPACE), None),
    "read secrets of its own namespace": ("GET", secrets(CONTROLLER_NAMESPACE), None),
    "list all secrets": ("GET", "/api/v1/secrets", None),
    "mint tokens": (
        "POST",
        f"/api/v1/namespaces/{CREDENTIALS_NAMESPACE}/serviceaccounts/reader/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    ),
    "speak for an agent": ("PATCH", f"{SERVING}/localmodelnodes/{MINE}/status", STATUS),
    "fake a sign of life": ("PUT", f"{LEASES.format(AGENTS_NAMESPACE)}/{MINE}", lease(MINE)),
    "take other leases": (
        "POST",
        LEASES.format("kube-system"),
        lease("kube-controller-manager", "kube-system"),
    ),
    "make caches": (
        "POST",
        f"{SERVING}/localmodelcaches",
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "LocalModelCache",
            "metadata": {"name": "rights"},
            "spec": {"sourceModelUri": "s3://b/k", "modelSize": "1", "nodeGroups": ["gpu-workers"]},
        },
    ),
    "delete caches": ("DELETE", f"{SERVING}/localmodelcaches/my-model-cache", None),
    "edit node groups": (
        "PATCH",
        f"{SERVING}/localmodelnodegroups/gpu-workers",
        {"spec": {"storageLimit": "1Pi"}},
    ),
    "relabel nodes": ("PATCH", f"/api/v1/nodes/{MINE}", {"metadata": {"labels": {"a": "b"}}}),
    "delete nodes": ("DELETE", f"/api/v1/nodes/{MINE}", None),
    "see pods": ("GET", "/api/v1/pods", None),
    "see configuration": ("GET", "/api/v1/configmaps", None),
    "change CRDs": (
        "PATCH",
        f"{CRDS}/localmodelcaches.serving.kserve.io",
        {"metadata": {"labels": {"a": "b"}}},
    ),
    "delete webhooks": ("DELETE", f"{WEBHOOKS}/localmodelcache.serving.kserve.io", None),
    "lift the policy": ("DELETE", f"{POLICIES}/localmodel-node-status", None),
    "make itself an admin": (
        "POST",
        f"{ROLES}/clusterrolebindings",
        binding("localmodel-controller", CONTROLLER_NAMESPACE),
    ),
}


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane) -> ControlPlane:
    inhabit(control_plane)
    return control_plane


@pytest.fixture(scope="module")
def controller(cluster: ControlPlane) -> Identity:
    return Identity.of(cluster, "localmodel-controller", CONTROLLER_NAMESPACE)


@pytest.mark.parametrize("what", MAY)
def test_the_controller_may(cluster: ControlPlane, controller: Identity, what: str) -> None:
    status, message = controller.request(*current(cluster, MAY[what]))
    assert status in (200, 201), message


@pytest.mark.parametrize("what", MAY_NOT)
def test_the_controller_may_not(cluster: ControlPlane, controller: Identity, what: str) -> None:
    status, message = controller.request(*current(cluster, MAY_NOT[what]))
    assert status == 403, message
