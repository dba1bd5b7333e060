"""A real etcd, kube-apiserver and kube-controller-manager on loopback, with RBAC on."""

import base64
import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support import binaries
from tests.support.certificates import Authority, write_key_pair
from tests.support.processes import Process, free_port

REPOSITORY = Path(__file__).resolve().parents[2]
WORKER_LABEL = {"kserve/localmodel": "worker"}
_START_SECONDS = 90


class ControlPlane:
    """Start it with `start()` or `with`; everything lives below `folder`.

    Nodes are plain API objects here, so a test may have any number of them. Programs under test get the kubeconfig of
    their own ServiceAccount by `kubeconfig_for`; `kubectl` acts as the cluster's admin.
    """

    def __init__(self, folder: Path, *, audit: bool = False) -> None:
        self.folder = folder
        self._programs = binaries.find()
        pki = Authority(folder / "pki")
        self._ca = pki.certificate
        self._etcd_port, self._peer_port = free_port(), free_port()
        self.port = free_port()
        self._manager_port = free_port()
        self.admin_kubeconfig = folder / "admin.kubeconfig"
        self.audit_log = folder / "audit.log"
        self._write_kubeconfig(
            self.admin_kubeconfig,
            certificate=pki.issue("admin", common_name="admin", organization="system:masters"),
        )
        self.etcd = Process("etcd", self._etcd_command(), log=folder / "etcd.log")
        self.apiserver = Process(
            "kube-apiserver", self._apiserver_command(pki, audit), log=folder / "apiserver.log"
        )
        self.manager = Process(
            "kube-controller-manager", self._manager_command(pki), log=folder / "manager.log"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        try:
            self.etcd.start()
            self.start_apiserver()
            self.manager.start()
        except BaseException:
            self.stop()
            raise

    def start_apiserver(self) -> None:
        """Start it (again) and wait until it is ready."""
        self.apiserver.start()
        self.apiserver.wait_ready(self._apiserver_ready, seconds=_START_SECONDS)

    def stop(self) -> None:
        for process in (self.manager, self.apiserver, self.etcd):
            # Nothing here outlives the run, so nothing needs a gentle end.
            process.kill()

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:
        """What kubectl prints as admin; RuntimeError with its errors when it fails and `check` is on."""
        return self.kubectl_as(self.admin_kubeconfig, *arguments, input=input, check=check)

    def kubectl_as(
        self, kubeconfig: Path, *arguments: str, input: str | None = None, check: bool = True
    ) -> str:
        done = subprocess.run(
            [str(self._programs["kubectl"]), f"--kubeconfig={kubeconfig}", *arguments],
            input=input,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=REPOSITORY,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> dict[str, Any] | None:
        """One object as admin, or None."""
        scope = ("-n", namespace) if namespace else ()
        text = self.kubectl("get", kind, name, *scope, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] | None = json.loads(text) if text.strip() else None
        return found

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply as admin, with strict field validation."""
        text = yaml.safe_dump_all([dict(item) for item in objects])
        self.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", input=text)

    def apply_deploy(self, folder: str = "deploy") -> None:
        """The installation as a user does it."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-k", folder)
        self.kubectl(
            "wait", "--for=condition=Established", "--timeout=30s", "crd", "-l", "app.kubernetes.io/part-of=localmodel",
        )  # fmt: skip

    def kubeconfig_for(
        self, service_account: str, namespace: str, *, node: str | None = None
    ) -> Path:
        """A kubeconfig with a fresh token of a ServiceAccount; with `node` bound to it, as a DaemonSet pod's token is."""
        bound = ("--bound-object-kind=Node", f"--bound-object-name={node}") if node else ()
        if node:
            uid = self.kubectl("get", "node", node, "-o", "jsonpath={.metadata.uid}")
            bound = (*bound, f"--bound-object-uid={uid}")
        token = self.kubectl(
            "create", "token", service_account, "-n", namespace, "--duration=24h", *bound
        ).strip()
        path = self.folder / f"{namespace}.{service_account}{f'.{node}' if node else ''}.kubeconfig"
        self._write_kubeconfig(path, token=token)
        return path

    def add_node(
        self, name: str, labels: Mapping[str, str] | None = None, *, ready: bool = True
    ) -> None:
        """A Node object; by default one that the agents' DaemonSet would select."""
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {"kubernetes.io/hostname": name, **WORKER_LABEL, **(labels or {})},
            },
        }
        self.apply(node)
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

    def _apiserver_ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self._ca))
        context.load_cert_chain(self.folder / "pki/admin.crt", self.folder / "pki/admin.key")
        try:
            with urllib.request.urlopen(  # noqa: S310  # our own server
                f"{self.url}/readyz", timeout=2, context=context
            ) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _etcd_command(self) -> list[str]:
        client = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{self._peer_port}"
        return [
            str(self._programs["etcd"]),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # Throw-away data: durability would only cost time.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver_command(self, pki: Authority, audit: bool) -> list[str]:
        certificate, key = pki.issue("apiserver", common_name="kube-apiserver")
        private, public = write_key_pair(self.folder / "pki", "service-accounts")
        command = [
            str(self._programs["kube-apiserver"]),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self._ca}",
            f"--cert-dir={self.folder / 'pki'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--endpoint-reconciler-type=none",
            "--shutdown-delay-duration=0s",
        ]
        if audit:
            policy = self.folder / "audit-policy.yaml"
            policy.write_text(
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"
            )
            command += [
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.audit_log}",
                "--audit-log-mode=blocking",
            ]
        return command

    def _manager_command(self, pki: Authority) -> list[str]:
        kubeconfig = self.folder / "manager.kubeconfig"
        self._write_kubeconfig(
            kubeconfig,
            certificate=pki.issue("manager", common_name="system:kube-controller-manager"),
        )
        return [
            str(self._programs["kube-controller-manager"]),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._manager_port}",
            f"--cert-dir={self.folder / 'pki'}",
            f"--root-ca-file={self._ca}",
            f"--service-account-private-key-file={self.folder / 'pki/service-accounts.key'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            # Nodes are objects without kubelets here: nobody renews their Leases, and tests say what is Ready.
            "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller",
        ]

    def _write_kubeconfig(
        self,
        path: Path,
        *,
        certificate: tuple[Path, Path] | None = None,
        token: str | None = None,
    ) -> None:
        user: dict[str, str] = {"token": token} if token else {}
        if certificate:
            user = {
                "client-certificate-data": base64.b64encode(certificate[0].read_bytes()).decode(),
                "client-key-data": base64.b64encode(certificate[1].read_bytes()).decode(),
            }
        cluster = {
            "server": self.url,
            "certificate-authority-data": base64.b64encode(self._ca.read_bytes()).decode(),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
