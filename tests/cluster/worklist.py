"""A node's work list as an admin writes it by hand, and what its agent makes of it. No controller takes part."""

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.cluster import CREDENTIALS_NAMESPACE
from tests.support.controlplane import ControlPlane
from tests.support.processes import wait_until

API_VERSION = "serving.kserve.io/v1alpha1"
_SECONDS = 30.0


class WorkList:
    """The LocalModelNode of one node."""

    def __init__(self, control_plane: ControlPlane, node: str) -> None:
        self._control_plane = control_plane
        self.node = node
        self.uid = ""

    def set(self, *models: Mapping[str, Any]) -> int:
        """Replace the work list; its new generation."""
        self._control_plane.apply(
            {
                "apiVersion": API_VERSION,
                "kind": "LocalModelNode",
                "metadata": {"name": self.node},
                "spec": {"localModels": [dict(model) for model in models]},
            }
        )
        generation: int = self.read()["metadata"]["generation"]
        return generation

    def delete(self) -> None:
        self._control_plane.kubectl("delete", "localmodelnode", self.node)

    def read(self) -> dict[str, Any]:
        found = self._control_plane.get("localmodelnode", self.node)
        assert found is not None, f"there is no LocalModelNode {self.node}"
        return found

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.read().get("status") or {}
        return status

    def report(self, key: str) -> dict[str, Any]:
        """The copy in status.models; empty when it is not listed."""
        models = self.status().get("models") or []
        return next((model for model in models if model["key"] == key), {})

    def wait(
        self, condition: Callable[[dict[str, Any]], bool], what: str, *, seconds: float = _SECONDS
    ) -> dict[str, Any]:
        """Until the status is so; it is part of the error otherwise."""
        seen: dict[str, Any] = {}

        def holds() -> bool:
            seen.clear()
            seen.update(self.status())
            return condition(seen)

        try:
            wait_until(holds, seconds=seconds, what=what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; status: {json.dumps(seen, indent=1)}") from None
        return seen

    def wait_report(
        self, key: str, *, seconds: float = _SECONDS, **expected: object
    ) -> dict[str, Any]:
        """Until the copy's report has these values."""

        def holds(status: dict[str, Any]) -> bool:
            found: dict[str, Any] = next(
                (m for m in status.get("models") or [] if m["key"] == key), {}
            )
            return bool(found) and all(found.get(name) == value for name, value in expected.items())

        self.wait(holds, f"{key} with {expected}", seconds=seconds)
        return self.report(key)

    def wait_downloaded(self, key: str, *, seconds: float = _SECONDS) -> dict[str, Any]:
        return self.wait_report(key, seconds=seconds, state="ModelDownloaded")


def model(name: str, uri: str, **more: Any) -> dict[str, Any]:
    return {"modelName": name, "sourceModelUri": uri, "modelSize": "1Gi", **more}


def secret(
    name: str, values: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """In the credentials namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": CREDENTIALS_NAMESPACE,
            "annotations": dict(annotations or {}),
        },
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def account(name: str, *secrets: str) -> dict[str, Any]:
    """In the credentials namespace."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": CREDENTIALS_NAMESPACE},
        "secrets": [{"name": secret} for secret in secrets],
    }


def files_below(folder: Path) -> dict[str, bytes]:
    if not folder.exists():
        return {}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def metric(text: str, name: str) -> float:
    """Sum of a metric's series in an exposition."""
    lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
