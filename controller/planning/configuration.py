"""KServe's settings for local models: key `localModel` of its ConfigMap. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from shared.domain.reasons import Reason

CONFIG_MAP = "inferenceservice-config"
KEY = "localModel"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What we take from it; the rest concerns KServe's webhooks, or the agents, who have it mounted."""

    managed: bool = True
    """Whether PersistentVolumes and claims are ours to make."""
    job_namespace: str | None = None


def read_configuration(data: Mapping[str, str]) -> Configuration:
    """ValueError that names what cannot be read; absent keys have their defaults."""
    text = data.get(KEY)
    if text is None:
        return Configuration()
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{KEY} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{KEY} is not a JSON object")
    disabled = values.get("disableVolumeManagement", False)
    if not isinstance(disabled, bool):
        raise ValueError(f"{KEY}.disableVolumeManagement is neither true nor false")
    namespace = values.get("jobNamespace")
    if namespace is not None and not isinstance(namespace, str):
        raise ValueError(f"{KEY}.jobNamespace is not text")
    return Configuration(managed=not disabled, job_namespace=namespace or None)


def misfit(configuration: Configuration, where: str, credentials: str) -> tuple[Reason, str] | None:
    """Where KServe's users put their credentials must be where the agents read them. `where`: namespace of the ConfigMap."""
    namespace = configuration.job_namespace
    if namespace is None or namespace == credentials:
        return None
    return (
        Reason.CREDENTIALS_NAMESPACE_MISMATCH,
        f"the agents read credentials in namespace {credentials}, but {KEY}.jobNamespace in ConfigMap {where}/{CONFIG_MAP} is "
        f"{namespace}: set credentials_namespace to {namespace} in the ConfigMaps localmodel-controller and localmodel-agent, "
        f"or correct it with: kubectl -n {where} edit configmap {CONFIG_MAP}",
    )
