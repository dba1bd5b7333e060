"""Requests that identities may and may not make, sent bare: what the API server answers to exactly this."""

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.cluster import (
    AGENTS_NAMESPACE,
    CONTROLLER_NAMESPACE,
    CREDENTIALS_NAMESPACE,
    Cluster,
)

SERVING = "/apis/serving.kserve.io/v1alpha1"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
EVENTS = "/apis/events.k8s.io/v1/namespaces/{}/events"
ROLES = "/apis/rbac.authorization.k8s.io/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
MINE, OTHER = "rights-1", "rights-2"
SPEC: dict[str, Any] = {"spec": {"localModels": []}}
STATUS = {"status": {"modelStatus": {"m": "ModelDownloaded"}}}
SECRET = "hf-token"
FOREIGN_EVENT = "rights.foreign"
DRY = "?dryRun=All"
_SECONDS = 10
_MEDIA_TYPES = {"PATCH": "application/merge-patch+json"}

Request = tuple[str, str, Mapping[str, Any] | None]
"""Method, path, body; a PATCH is a merge patch."""


class Identity:
    """Who holds the token in a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._context = ssl.create_default_context(cadata=authority)
        self._server: str = cluster["server"]
        self._token: str = config["users"][0]["user"]["token"]

    @classmethod
    def of(cls, cluster: Cluster, account: str, namespace: str, *, node: str | None = None) -> Self:
        return cls(cluster.kubeconfig_for(account, namespace, node=node))

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, str]:
        """Status and message (the whole answer where there is none); a PATCH is a merge patch."""
        request = urllib.request.Request(  # noqa: S310  # our own server
            self._server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": _MEDIA_TYPES.get(method, "application/json"),
            },
        )
        try:
            with urllib.request.urlopen(  # noqa: S310  # our own server
                request, timeout=_SECONDS, context=self._context
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, str(json.loads(error.read()).get("message", ""))


def inhabit(cluster: Cluster) -> None:
    """Two nodes with work lists and Leases, one secret and who names it, one cache of each kind, one group."""
    for node in (MINE, OTHER):
        cluster.add_node(node)
        cluster.apply(local_model_node(node), lease(node))
    cluster.apply(lease("localmodel-controller", CONTROLLER_NAMESPACE))
    furnish(cluster)
    for example in ("gpu-workers", "my-model-cache", "team-model"):
        cluster.kubectl("apply", "--server-side", "-f", f"deploy/examples/{example}.yaml")


def furnish(cluster: Cluster) -> None:
    """One secret, a ServiceAccount beside it, and somebody else's event."""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": CREDENTIALS_NAMESPACE},
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "reader", "namespace": CREDENTIALS_NAMESPACE},
        },
        event("default", name=FOREIGN_EVENT),
    )


def current(cluster: Cluster, request: Request) -> Request:
    """A PUT with the resourceVersion of the Lease that is there, without which it would be invalid for anybody."""
    method, path, body = request
    if method != "PUT" or body is None:
        return request
    metadata = body["metadata"]
    found = cluster.get("lease", metadata["name"], namespace=metadata["namespace"])
    assert found is not None
    version = found["metadata"]["resourceVersion"]
    return method, path, {**body, "metadata": {**metadata, "resourceVersion": version}}


def local_model_node(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "LocalModelNode",
        "metadata": {"name": name},
        **SPEC,
    }


def lease(name: str, namespace: str = AGENTS_NAMESPACE) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"holderIdentity": name},
    }


def event(namespace: str, *, name: str = "rights.1") -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "test",
        "reportingInstance": "test",
        "regarding": {"kind": "Pod", "name": "rights", "namespace": namespace},
        "type": "Normal",
        "reason": "Tested",
        "action": "Test",
    }


def binding(account: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "rights-escalation"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def secrets(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/secrets" + (f"/{name}" if name else "")
