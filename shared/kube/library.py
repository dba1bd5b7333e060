"""What is used of kubernetes_asyncio: its configuration, its TLS session, its kubeconfig loading.

`import kubernetes_asyncio` reads 850 modules, one per API and kind: 64 MiB on every node and 1.5 s of every start, for classes
that raw JSON leaves unused. The packages are therefore entered here without their `__init__`, for this process's only importer.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.client.rest import RESTClientObject
    from kubernetes_asyncio.config import (
        ConfigException,
        load_incluster_config,
        load_kube_config,
    )

__all__ = [
    "ConfigException",
    "Configuration",
    "RESTClientObject",
    "load_incluster_config",
    "load_kube_config",
]

_NAME: Final = "kubernetes_asyncio"


def _enter() -> None:
    spec = importlib.util.find_spec(_NAME)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(_NAME, name=_NAME)
    (folder,) = spec.submodule_search_locations
    for name in ("", ".client", ".client.models"):
        package = ModuleType(_NAME + name)
        package.__path__ = [folder + name.replace(".", "/")]
        sys.modules[package.__name__] = package
    client = sys.modules[f"{_NAME}.client"]
    # What the kubeconfig loader expects in the package.
    for module, name in (("configuration", "Configuration"), ("api_client", "ApiClient")):
        setattr(client, name, getattr(importlib.import_module(f"{_NAME}.client.{module}"), name))


if not TYPE_CHECKING:
    if _NAME not in sys.modules:
        _enter()
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.client.rest import RESTClientObject
    from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config
