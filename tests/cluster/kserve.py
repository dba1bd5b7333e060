"""What of KServe the controller looks at: CRDs of its services, and services as its webhook leaves them."""

from typing import Any

from tests.support.cluster import Cluster

GROUP = "serving.kserve.io"
INFERENCE = "inferenceservice"
LLM = "llminferenceservice"
_VERSIONS = {INFERENCE: ("v1beta1",), LLM: ("v1alpha1", "v1alpha2")}
_KINDS = {INFERENCE: "InferenceService", LLM: "LLMInferenceService"}
_PREFIX = "internal.serving.kserve.io/localmodel"


def crd(singular: str, *versions: str) -> dict[str, Any]:
    """With a schema that takes anything; the last version is the stored one."""
    versions = versions or _VERSIONS[singular]
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{singular}s.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": _KINDS[singular],
                "listKind": f"{_KINDS[singular]}List",
                "plural": f"{singular}s",
                "singular": singular,
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == versions[-1],
                    "schema": {"openAPIV3Schema": schema},
                }
                for version in versions
            ],
        },
    }


def install(cluster: Cluster, *singulars: str, versions: tuple[str, ...] = ()) -> None:
    """`versions`: those alone."""
    for singular in singulars:
        cluster.apply(crd(singular, *versions))
        cluster.kubectl(
            "wait", "--for=condition=Established", "--timeout=30s", f"crd/{singular}s.{GROUP}"
        )


def uninstall(cluster: Cluster) -> None:
    names = [f"{singular}s.{GROUP}" for singular in _VERSIONS]
    cluster.kubectl("delete", "crd", *names, "--ignore-not-found", "--timeout=30s")


def service(
    name: str,
    namespace: str,
    cache: str,
    *,
    kind: str = INFERENCE,
    own: bool = False,
    group: str | None = None,
    claim: str | None = None,
    version: str | None = None,
) -> dict[str, Any]:
    """`own`: uses the namespace cache of that name. `group`: asked for. `claim`: what the webhook told it to mount."""
    labels = {_PREFIX: cache, **({f"{_PREFIX}-namespace": namespace} if own else {})}
    notes = {
        **({f"{GROUP}/nodegroup": group} if group else {}),
        **({f"{_PREFIX}-pvc-name": claim} if claim else {}),
    }
    return {
        "apiVersion": f"{GROUP}/{version or _VERSIONS[kind][-1]}",
        "kind": _KINDS[kind],
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": notes,
        },
        "spec": {},
    }
