"""A group, nodes and caches, by number."""

from typing import Any

from shared.kube.resource import LOCAL_MODEL_CACHES

GROUP = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "LocalModelNodeGroup",
    "metadata": {"name": "bench"},
    "spec": {
        "storageLimit": "1000Ti",
        "persistentVolumeSpec": {
            "local": {"path": "/models"},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "pool", "operator": "In", "values": ["bench"]}
                            ]
                        }
                    ]
                }
            },
        },
        "persistentVolumeClaimSpec": {},
    },
}


def node_name(index: int) -> str:
    return f"bench-{index:05}"


def node(index: int) -> dict[str, Any]:
    """Of the group, and with as many labels as nodes of a cloud have."""
    name = node_name(index)
    labels = {"kubernetes.io/hostname": name, "kserve/localmodel": "worker", "pool": "bench"}
    labels |= {f"example.com/label-{i}": f"value-{i}" for i in range(15)}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def cache(index: int) -> dict[str, Any]:
    name = f"model-{index:04}"
    return {
        "apiVersion": LOCAL_MODEL_CACHES.api_version,
        "kind": LOCAL_MODEL_CACHES.kind,
        "metadata": {"name": name},
        "spec": {
            "sourceModelUri": f"hf://org/{name}",
            "modelSize": "1Gi",
            "nodeGroups": ["bench"],
        },
    }
