"""A real etcd, kube-apiserver and kube-controller-manager, with RBAC on."""

import base64
import ssl
import urllib.request
from pathlib import Path
from typing import Self

import yaml

from tests.support import binaries
from tests.support.certificates import Authority, write_key_pair
from tests.support.cluster import Cluster
from tests.support.processes import Process, free_port

_START_SECONDS = 90
LOOPBACK = "127.0.0.1"


class ControlPlane(Cluster):
    """Start it with `start()` or `with`; everything lives below `folder`.

    `etcd`, `apiserver` and `manager` are processes that a test may kill or stop, and bring back by `start`. Programs
    under test get the kubeconfig of their own ServiceAccount by `kubeconfig_for`.

    audit: who did what is a line of JSON for each request in `audit_log`. service: this machine's address at which pods
    of real nodes find the API, on port 443; a scheduler and all controllers run then.
    """

    def __init__(self, folder: Path, *, audit: bool = False, service: str | None = None) -> None:
        self._programs = binaries.find()
        self._real = service is not None
        self._address = service or LOOPBACK
        super().__init__(folder, self._programs["kubectl"])
        self.pki = pki = Authority(folder / "pki")
        self._ca = pki.certificate
        self._etcd_port, self._peer_port = free_port(), free_port()
        self._manager_port = free_port()
        self.port = 443 if self._real else free_port()
        self.audit_log = folder / "audit.log"
        self._write_kubeconfig(
            self.admin_kubeconfig,
            pki.issue("admin", common_name="admin", organization="system:masters"),
        )
        self.etcd = Process("etcd", self._etcd_command(), log=folder / "etcd.log")
        self.apiserver = Process(
            "kube-apiserver", self._apiserver_command(pki, audit), log=folder / "apiserver.log"
        )
        self.manager = Process(
            "kube-controller-manager", self._manager_command(pki), log=folder / "manager.log"
        )
        self._scheduler = (
            Process("kube-scheduler", self._scheduler_command(), log=folder / "scheduler.log")
            if self._real
            else None
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def etcd_port(self) -> int:
        return self._etcd_port

    @property
    def url(self) -> str:
        return f"https://{self._address}:{self.port}"

    def start(self) -> None:
        """Start what does not run, and wait until the API answers."""
        try:
            if not self.etcd.running:
                self.etcd.start()
            if not self.apiserver.running:
                self.apiserver.start()
            self.apiserver.wait_ready(self._apiserver_ready, seconds=_START_SECONDS)
            if not self.manager.running:
                self.manager.start()
            if self._scheduler is not None and not self._scheduler.running:
                self._scheduler.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for process in (self._scheduler, self.manager, self.apiserver, self.etcd):
            if process is not None:
                # Nothing here outlives the run, so nothing needs a gentle end.
                process.kill()

    def write_kubeconfig(self, path: Path, *, common_name: str, organization: str) -> None:
        """For a user who proves it by a certificate."""
        self._write_kubeconfig(
            path, self.pki.issue(path.stem, common_name=common_name, organization=organization)
        )

    def _apiserver_ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self._ca))
        context.load_cert_chain(self.folder / "pki/admin.crt", self.folder / "pki/admin.key")
        try:
            with urllib.request.urlopen(  # noqa: S310  # our own server
                f"{self.url}/readyz", timeout=2, context=context
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
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
        certificate, key = pki.issue(
            "apiserver", common_name="kube-apiserver", address=self._address
        )
        private, public = write_key_pair(self.folder / "pki", "service-accounts")
        command = [
            str(self._programs["kube-apiserver"]),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--bind-address={self._address}",
            f"--advertise-address={self._address}",
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
        if self._real:
            # Logs and exec go from the API server to the kubelets.
            client, client_key = pki.issue(
                "kubelet-client", common_name="kube-apiserver", organization="system:masters"
            )
            command += [
                f"--kubelet-client-certificate={client}",
                f"--kubelet-client-key={client_key}",
                "--kubelet-preferred-address-types=InternalIP",
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
            kubeconfig, pki.issue("manager", common_name="system:kube-controller-manager")
        )
        command = [
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
        ]
        if not self._real:
            # Nodes are objects without kubelets here: tests say what is Ready, and no pod would ever run.
            command.append(
                "--controllers=*,-node-lifecycle-controller,-taint-eviction-controller"
                ",-daemonset-controller,-deployment-controller"
            )
        return command

    def _scheduler_command(self) -> list[str]:
        kubeconfig = self.folder / "scheduler.kubeconfig"
        self._write_kubeconfig(
            kubeconfig, self.pki.issue("scheduler", common_name="system:kube-scheduler")
        )
        return [
            str(binaries.find(["kube-scheduler"])["kube-scheduler"]),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--cert-dir={self.folder / 'pki'}",
            "--leader-elect=false",
        ]

    def _write_kubeconfig(self, path: Path, certificate: tuple[Path, Path]) -> None:
        def encoded(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        user = {
            "client-certificate-data": encoded(certificate[0]),
            "client-key-data": encoded(certificate[1]),
        }
        cluster = {"server": self.url, "certificate-authority-data": encoded(self._ca)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
