"""Pods that read a model through its claim, as KServe's webhook would have them."""

from typing import Any

from shared.domain.storage_key import storage_key
from tests.e2e.site import Site
from tests.support.nodes.images import READER

# Runs the model on zeros of the shape that it asks for.
INFERENCE = """
import json, onnxruntime
session = onnxruntime.InferenceSession("/mnt/models/model.onnx", providers=["CPUExecutionProvider"])
import numpy
inputs = {i.name: numpy.zeros([d if isinstance(d, int) else 1 for d in i.shape],
          {"tensor(int32)": numpy.int32, "tensor(int64)": numpy.int64}.get(i.type, numpy.float32))
          for i in session.get_inputs()}
outputs = session.run(None, inputs)
try:
    open("/mnt/models/written", "w")
except OSError as error:
    refused = error.strerror
print(json.dumps({"outputs": [list(o.shape) for o in outputs], "refused": refused}))
"""


def reader(name: str, namespace: str, claim: str, uri: str, *code: str) -> dict[str, Any]:
    """A pod that mounts one model as KServe's webhook would have it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "reader",
                    "image": READER,
                    "command": ["/opt/reader/bin/python", "-c", *code],
                    "volumeMounts": [
                        {
                            "name": "models",
                            "mountPath": "/mnt/models",
                            "subPath": f"models/{storage_key(uri)}",
                            "readOnly": True,
                        }
                    ],
                }
            ],
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }


def run(site: Site, pod: dict[str, Any]) -> str:
    """Its output once it has succeeded."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    site.control_plane.apply(pod)

    def ended() -> bool:
        phase = (site.control_plane.get("pod", name, namespace=namespace) or {})["status"]["phase"]
        assert phase != "Failed", site.kubectl("logs", "-n", namespace, name)
        return bool(phase == "Succeeded")

    site.wait(ended, f"pod {namespace}/{name} succeeded")
    return site.kubectl("logs", "-n", namespace, name)
