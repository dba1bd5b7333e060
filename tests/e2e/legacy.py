"""A cluster as KServe's own local-model controller and agent leave it: plain CRDs, a webhook, objects, files on the nodes."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from shared.domain.storage_key import storage_key
from tests.e2e.site import API_VERSION, Site
from tests.support.cluster import REPOSITORY

WEBHOOK = "localmodelcache.serving.kserve.io"
NAMESPACE = "kserve"
AGENT = "kserve-localmodelnode-agent"
CONTROLLER = "kserve-localmodel-controller-manager"
# What KServe's schemas know, below spec and status.
_FIELDS: dict[str, dict[str, tuple[str, ...]]] = {
    "localmodelcaches": {
        "spec": ("sourceModelUri", "modelSize", "nodeGroups", "serviceAccountName", "storage"),
        "status": ("copies", "nodeStatus", "inferenceServices", "llmInferenceServices"),
    },
    "localmodelnodegroups": {
        "spec": ("storageLimit", "persistentVolumeSpec", "persistentVolumeClaimSpec"),
        "status": ("used", "available"),
    },
    "localmodelnodes": {"spec": ("localModels",), "status": ("modelStatus",)},
    "localmodelnamespacecaches": {
        "spec": ("sourceModelUri", "modelSize", "nodeGroups", "serviceAccountName", "storage"),
        "status": ("copies", "nodeStatus", "inferenceServices", "llmInferenceServices"),
    },
}


def install(site: Site) -> None:
    for plural in _FIELDS:
        site.control_plane.apply(_crd(plural))
    site.kubectl(
        "wait", "--for=condition=Established", "--timeout=30s", "crd",
        *(f"{plural}.serving.kserve.io" for plural in _FIELDS),
    )  # fmt: skip
    for namespace in (NAMESPACE, "kserve-localmodel-jobs"):
        site.kubectl("create", "namespace", namespace)
    site.control_plane.apply(_configuration(), _workload("Deployment", CONTROLLER))
    site.control_plane.apply(_workload("DaemonSet", AGENT))


def add_cache(site: Site, name: str, uri: str, nodes: Mapping[str, Mapping[str, bytes]]) -> None:
    """Cached on `nodes`, each with its files by path: finalizer, work lists, statuses."""
    spec: dict[str, Any] = {
        "sourceModelUri": uri,
        "modelSize": "64Mi",
        "nodeGroups": ["gpu-workers"],
    }
    metadata = {"name": name, "finalizers": ["localmodel.kserve.io/finalizer"]}
    if uri.startswith("s3:"):
        spec["storage"] = {"key": "reader"}
    site.control_plane.apply(
        {"apiVersion": API_VERSION, "kind": "LocalModelCache", "metadata": metadata, "spec": spec}
    )
    counts = {"available": len(nodes), "total": len(nodes)}
    states = dict.fromkeys(nodes, "NodeDownloaded")
    _set_status(site, "localmodelcache", name, {"copies": counts, "nodeStatus": states})
    for node, files in nodes.items():
        entry = {"sourceModelUri": uri, "modelName": name}
        site.control_plane.apply(
            {
                "apiVersion": API_VERSION,
                "kind": "LocalModelNode",
                "metadata": {"name": node},
                "spec": {"localModels": [entry]},
            }
        )
        _set_status(site, "localmodelnode", node, {"modelStatus": {name: "ModelDownloaded"}})
        for path, content in files.items():
            site.write(node, f"/models/models/{storage_key(uri)}/{path}", content, owner=1000)


def _set_status(site: Site, kind: str, name: str, status: Mapping[str, Any]) -> None:
    patch = json.dumps({"status": status})
    site.kubectl("patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)


def _crd(plural: str) -> dict[str, Any]:
    """Ours without what KServe's lacks."""
    path = REPOSITORY / f"deploy/crds/serving.kserve.io_{plural}.yaml"
    crd: dict[str, Any] = yaml.safe_load(path.read_text())
    crd["metadata"] = {"name": crd["metadata"]["name"]}
    (version,) = crd["spec"]["versions"]
    version.pop("additionalPrinterColumns", None)
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    for part, known in _FIELDS[plural].items():
        schema = properties[part]
        for name in ("x-kubernetes-validations", "default", "required"):
            schema.pop(name, None)
        schema["properties"] = {n: s for n, s in schema["properties"].items() if n in known}
    if plural == "localmodelnodes":
        entry = properties["spec"]["properties"]["localModels"]["items"]
        kept = ("sourceModelUri", "modelName", "namespace", "nodeGroup", "serviceAccountName")
        entry["properties"] = {n: entry["properties"][n] for n in (*kept, "storage")}
        entry.pop("x-kubernetes-validations", None)
    return crd


def _configuration() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "inferenceservice-config", "namespace": NAMESPACE},
        "data": {
            "localModel": json.dumps({"enabled": True, "jobNamespace": "kserve-localmodel-jobs"})
        },
    }


def webhook() -> dict[str, Any]:
    """Served by the controller that is replaced: when that is gone it refuses everything."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": WEBHOOK},
        "webhooks": [
            {
                "name": "localmodelcache.kserve-webhook-server.validator",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "clientConfig": {
                    "service": {"namespace": NAMESPACE, "name": "gone", "path": "/validate"}
                },
                "rules": [
                    {
                        "apiGroups": ["serving.kserve.io"],
                        "apiVersions": ["v1alpha1"],
                        "operations": ["CREATE", "UPDATE", "DELETE"],
                        "resources": ["localmodelcaches"],
                    }
                ],
            }
        ],
    }


def _workload(kind: str, name: str) -> dict[str, Any]:
    """Named as KServe's; what it runs is of no matter."""
    labels = {"app": name}
    container = {"name": "manager", "image": "localhost/pause:1", "imagePullPolicy": "Never"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
