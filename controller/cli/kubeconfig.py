"""Which cluster the caller means, as kubectl finds it: --kubeconfig, $KUBECONFIG, ~/.kube/config, else the pod's own account."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.cli.outcome import Exit, Problem

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Target:
    """files: None = the pod's own account; several, joined by colons, are merged. namespace: of the context."""

    files: Path | None
    context: str | None
    namespace: str


def find(kubeconfig: Path | None, context: str | None) -> Target:
    """Problem when there is no configuration, or one that cannot be used."""
    if kubeconfig is not None:
        if not kubeconfig.is_file():
            raise Problem(f"{kubeconfig} does not exist.", "--kubeconfig names the file.")
        files = [kubeconfig]
    elif os.environ.get("KUBECONFIG"):
        named = [Path(part) for part in os.environ["KUBECONFIG"].split(os.pathsep) if part]
        files = [path for path in named if path.is_file()]
    else:
        home = Path.home() / ".kube/config"
        files = [home] if home.is_file() else []
    if files:
        namespace = _namespace(files, context)
        return Target(Path(os.pathsep.join(map(str, files))), context, namespace)
    if "KUBERNETES_SERVICE_HOST" in os.environ and _POD_NAMESPACE.is_file():
        return Target(None, None, _POD_NAMESPACE.read_text(encoding="utf-8").strip())
    raise Problem(
        "There is no kubeconfig.",
        "name one by --kubeconfig or $KUBECONFIG, or put it at ~/.kube/config.",
        exit=Exit.STALLED,
    )


def _namespace(files: list[Path], context: str | None) -> str:
    """The first file that says something wins, as kubectl has it."""
    documents = [_read(path) for path in files]
    wanted = context or next(
        (d["current-context"] for d in documents if d.get("current-context")), None
    )
    contexts = {
        entry.get("name"): entry.get("context") or {}
        for document in reversed(documents)
        for entry in document.get("contexts") or ()
        if isinstance(entry, dict)
    }
    if wanted is None:
        raise Problem(
            "The kubeconfig has no current context.",
            "kubectl config use-context NAME sets one, --context names one.",
        )
    if wanted not in contexts:
        known = ", ".join(sorted(str(name) for name in contexts)) or "none"
        raise Problem(f"The kubeconfig has no context {wanted}.", f"there are: {known}.")
    return str(contexts[wanted].get("namespace") or "default")


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not YAML"
        raise Problem(f"The kubeconfig {path} cannot be read: {why}.") from error
    if not isinstance(found, dict):
        raise Problem(f"The kubeconfig {path} cannot be read: it is not a configuration.")
    return found
