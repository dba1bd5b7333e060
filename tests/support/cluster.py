"""A cluster as its admin handles it: kubectl, nodes, tokens, the installation."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
WORKER_LABEL = {"kserve/localmodel": "worker"}
CONTROLLER_NAMESPACE = "localmodel-system"
AGENTS_NAMESPACE = "localmodel-agents"
CREDENTIALS_NAMESPACE = "kserve-localmodel-jobs"
KINDS = "localmodelcaches,localmodelnamespacecaches,localmodelnodes,localmodelnodegroups"
_KUBECTL_SECONDS = 60
_POLICY_SECONDS = 30


class Cluster:
    """Whatever runs the cluster: `admin_kubeconfig` reaches it. Kubeconfigs of others are written into `folder`.

    Nodes made here are plain API objects without a kubelet, so a test may have any number of them.
    """

    def __init__(self, folder: Path, kubectl: Path) -> None:
        self.folder = folder
        self.admin_kubeconfig = folder / "admin.kubeconfig"
        self._kubectl = kubectl

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:
        """What kubectl prints as admin; RuntimeError with its errors when it fails and `check` is on.

        Without `check` its errors are part of the answer. It runs in the repository's folder.
        """
        return self.kubectl_as(self.admin_kubeconfig, *arguments, input=input, check=check)

    def kubectl_as(
        self, kubeconfig: Path, *arguments: str, input: str | None = None, check: bool = True
    ) -> str:
        """The same as somebody else."""
        done = subprocess.run(
            [str(self._kubectl), f"--kubeconfig={kubeconfig}", *arguments],
            input=input,
            capture_output=True,
            text=True,
            timeout=_KUBECTL_SECONDS,
            cwd=REPOSITORY,
            check=False,
        )
        if not check:
            return done.stdout + done.stderr
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> dict[str, Any] | None:
        """One object, or None."""
        scope = ("-n", namespace) if namespace else ()
        text = self.kubectl("get", kind, name, *scope, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] | None = json.loads(text) if text.strip() else None
        return found

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Server-side, with strict field validation."""
        text = yaml.safe_dump_all([dict(item) for item in objects])
        self.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", input=text)

    def apply_deploy(self, folder: str = "deploy") -> None:
        """The installation as a user does it; returns when its kinds are served and its admission policies hold."""
        self.kubectl(
            "apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", folder
        )
        selector = "--selector=app.kubernetes.io/part-of=localmodel"
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", selector)
        self._await_policies()

    def kubeconfig_for(
        self, service_account: str, namespace: str, *, node: str | None = None
    ) -> Path:
        """A kubeconfig with a fresh token of a ServiceAccount; with `node` bound to it, as a DaemonSet pod's token is."""
        bound: tuple[str, ...] = ()
        if node:
            uid = self.kubectl("get", "node", node, "-o", "jsonpath={.metadata.uid}")
            bound = (
                "--bound-object-kind=Node",
                f"--bound-object-name={node}",
                f"--bound-object-uid={uid}",
            )
        token = self.kubectl(
            "create", "token", service_account, "-n", namespace, "--duration=24h", *bound
        )
        config = yaml.safe_load(self.admin_kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token.strip()}
        path = self.folder / f"{namespace}.{service_account}{f'.{node}' if node else ''}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def add_node(
        self, name: str, labels: Mapping[str, str] | None = None, *, ready: bool = True
    ) -> None:
        """A Node object that the agents' DaemonSet would select; an existing one gets these labels and readiness."""
        all_labels = {"kubernetes.io/hostname": name, **WORKER_LABEL, **(labels or {})}
        metadata = {"name": name, "labels": all_labels}
        self.apply({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
        self.set_node_ready(name, ready)

    def set_node_ready(self, name: str, ready: bool = True) -> None:
        condition = {
            "type": "Ready",
            "status": "True" if ready else "False",
            "reason": "KubeletReady" if ready else "KubeletNotReady",
            "message": "",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        patch = json.dumps({"status": {"conditions": [condition]}})
        self.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", patch)

    def remove_node(self, name: str) -> None:
        self.kubectl("delete", "node", name, "--ignore-not-found")

    def clear(self) -> None:
        """Remove all that tests make, whatever finalizers say; the installation stays. Programs must be down."""
        for item in json.loads(self.kubectl("get", KINDS, "-A", "-o", "json"))["items"]:
            metadata = item["metadata"]
            if metadata.get("finalizers"):
                scope = ("-n", metadata["namespace"]) if "namespace" in metadata else ()
                patch = '{"metadata":{"finalizers":null}}'
                self.kubectl(
                    "patch", item["kind"], metadata["name"], *scope, "--type=merge", "-p", patch
                )
        everything = ("--all", "--now", "--timeout=30s")
        self.kubectl("delete", KINDS, "-A", *everything)
        self.kubectl("delete", "nodes,persistentvolumes", *everything)
        self.kubectl("delete", "leases", "-n", AGENTS_NAMESPACE, *everything)
        # A controller that was killed still holds it, and would keep the next one waiting.
        self.kubectl("delete", "leases", "-n", CONTROLLER_NAMESPACE, *everything)
        self.kubectl("delete", "secrets,serviceaccounts", "-n", CREDENTIALS_NAMESPACE, *everything)

    def _await_policies(self) -> None:
        """The API server takes new policies up within a second or two, and lets everything pass before."""
        agent = f"--as=system:serviceaccount:{AGENTS_NAMESPACE}:localmodel-agent"
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "policy-probe", "namespace": AGENTS_NAMESPACE},
        }
        node = {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "LocalModelNode",
            "metadata": {"name": "policy-probe"},
            "spec": {"localModels": []},
        }
        status = json.dumps({**node, "status": {"modelStatus": {}}})
        attempts = (
            (["create", "-f", "-"], json.dumps(lease)),
            (["apply", "--server-side", "--subresource=status", "-f", "-"], status),
        )

        def hold() -> bool:
            # Every time: a controller that already runs removes the list of a node that is not there.
            self.apply(node)
            return all(
                "ValidatingAdmissionPolicy"
                in self.kubectl(*command, "--dry-run=server", agent, input=body, check=False)
                for command, body in attempts
            )

        try:
            wait_until(hold, seconds=_POLICY_SECONDS, what="admission policies in force")
        finally:
            self.kubectl("delete", "localmodelnode", "policy-probe", "--ignore-not-found")
