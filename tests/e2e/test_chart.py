"""The Helm chart is the kustomize overlay, and its values change what they say."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.site import OVERLAY, Site
from tests.monitoring.overlay import built
from tests.support import binaries
from tests.support.cluster import REPOSITORY

Objects = dict[tuple[str, str, str], dict[str, Any]]
CHECKSUM = "checksum/config"
AGENT = ("DaemonSet", "localmodel-agents", "localmodel-agent")
CONTROLLER = ("Deployment", "localmodel-system", "localmodel-controller")
_SECONDS = 60


def rendered(*options: str) -> Objects:
    """By helm itself, CRDs included."""
    helm = binaries.find(["helm"])["helm"]
    command = [str(helm), "template", "localmodel", "deploy/chart", "--include-crds"]
    done = subprocess.run(
        [*command, "--namespace=kube-system", "--kube-version=1.30.0", *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return by_name(done.stdout)


def by_name(text: str) -> Objects:
    return {
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item
        for item in yaml.safe_load_all(text)
        if item
    }


def alike(objects: Objects) -> Objects:
    """Without what the chart alone has: a checksum of the settings, so that other ones make other pods."""
    for item in objects.values():
        if item["kind"] in ("DaemonSet", "Deployment"):
            assert item["spec"]["template"]["metadata"].pop("annotations").keys() == {CHECKSUM}
    return objects


def test_it_makes_the_same_objects_as_the_default_overlay(site: Site) -> None:
    overlay, chart = by_name(site.kubectl("kustomize", OVERLAY)), alike(rendered())
    assert chart.keys() == overlay.keys()
    for name, wanted in overlay.items():
        assert chart[name] == wanted, name


def test_with_monitoring_it_makes_the_same_objects_as_the_overlay_with_the_component(
    folder: Path,
) -> None:
    overlay = built(folder, "default", monitored=True)
    chart = alike(rendered("--set=monitoring.enabled=true"))
    assert chart.keys() == overlay.keys()
    for name, wanted in overlay.items():
        assert chart[name] == wanted, name


def test_admins_values_reach_the_programs() -> None:
    values = {
        "agent.image": "registry.example/agent:1",
        "agent.hostPath": "/data/models",
        "agent.priorityClassName": "important",
        "agent.maxBytesPerSecond": "1000000000",
        "agent.minFreePercent": "12",
        "agent.seLinuxOptions.type": "spc_t",
        "agent.settings.parallel_copies": "2",
        "agent.nodeSelector.pool": "gpu",
        "credentialsNamespace": "secrets-of-models",
        "controller.replicas": "3",
        "controller.ui": "false",
        "monitoring.enabled": "true",
    }
    objects = rendered(*(f"--set={name}={value}" for name, value in values.items()))
    agents = "localmodel-agents"
    pod = objects["DaemonSet", agents, "localmodel-agent"]["spec"]["template"]["spec"]
    assert {c["image"] for c in (*pod["containers"], *pod["initContainers"])} == {
        values["agent.image"]
    }
    assert pod["volumes"][0]["hostPath"]["path"] == "/data/models"
    assert pod["priorityClassName"] == "important"
    assert pod["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}
    assert pod["nodeSelector"] == {"kserve/localmodel": "worker", "pool": "gpu"}
    text = objects["ConfigMap", agents, "localmodel-agent"]["data"]["agent.yaml"]
    assert yaml.safe_load(text) == {
        "host_path": "/data/models",
        "max_bytes_per_second": 1000000000,
        "min_free_percent": 12,
        "credentials_namespace": "secrets-of-models",
        "parallel_copies": 2,
    }
    assert ("Role", "secrets-of-models", "localmodel-agent") in objects
    assert ("Namespace", "", "secrets-of-models") in objects
    assert (
        objects["Deployment", "localmodel-system", "localmodel-controller"]["spec"]["replicas"] == 3
    )
    text = objects["ConfigMap", "localmodel-system", "localmodel-controller"]["data"]
    assert yaml.safe_load(text["controller.yaml"]) == {
        "credentials_namespace": "secrets-of-models",
        "ui": False,
    }
    assert ("Service", "localmodel-system", "localmodel-controller") not in objects
    assert ("PodMonitor", agents, "localmodel-agent") in objects


def pod_of(objects: Objects, workload: tuple[str, str, str]) -> dict[str, Any]:
    spec: dict[str, Any] = objects[workload]["spec"]["template"]["spec"]
    return spec


def test_what_pods_ask_of_a_cluster_are_values() -> None:
    objects = rendered(
        "--set=imagePullSecrets[0].name=registry",
        "--set=controller.image=registry.example/controller:1",
        "--set=controller.resources.limits.memory=1Gi",
        "--set=agent.resources.requests.cpu=2",
        "--set=controller.tolerations[0].key=infra,controller.tolerations[0].operator=Exists",
        "--set=agent.tolerations[0].operator=Exists",
    )
    agent, controller = pod_of(objects, AGENT), pod_of(objects, CONTROLLER)
    assert agent["imagePullSecrets"] == controller["imagePullSecrets"] == [{"name": "registry"}]
    assert agent["tolerations"] == [{"operator": "Exists"}]
    assert controller["tolerations"] == [{"key": "infra", "operator": "Exists"}]
    (container,) = controller["containers"]
    assert container["image"] == "registry.example/controller:1"
    assert container["resources"]["limits"] == {"memory": "1Gi"}
    assert agent["containers"][0]["resources"]["requests"] == {"cpu": 2, "memory": "192Mi"}


def test_the_agent_is_a_member_of_the_group_that_files_get() -> None:
    objects = rendered("--set=agent.gid=2000")
    assert pod_of(objects, AGENT)["securityContext"]["supplementalGroups"] == [2000]
    text = objects["ConfigMap", "localmodel-agents", "localmodel-agent"]["data"]["agent.yaml"]
    assert yaml.safe_load(text) == {"gid": 2000}


def test_settings_make_new_pods_of_the_program_that_has_them() -> None:
    def checksums(*options: str) -> tuple[str, str]:
        templates = (rendered(*options)[name]["spec"]["template"] for name in (AGENT, CONTROLLER))
        first, second = (template["metadata"]["annotations"][CHECKSUM] for template in templates)
        return first, second

    agent, controller = checksums()
    assert checksums("--set=agent.resources.requests.cpu=2") == (agent, controller)
    changed, same = checksums("--set=agent.maxBytesPerSecond=1000000")
    assert (changed != agent, same) == (True, controller)
    same, changed = checksums("--set=controller.settings.workers=8")
    assert (same, changed != controller) == (agent, True)


def test_a_namespace_of_credentials_that_is_there_is_not_made() -> None:
    made = rendered().keys() - rendered("--set=createCredentialsNamespace=false").keys()
    assert made == {("Namespace", "", "kserve-localmodel-jobs")}


@pytest.mark.parametrize(
    "options",
    [
        (),
        (
            "--set=agent.hostPath=/data,controller.replicas=1,agent.gid=7,imagePullSecrets[0].name=a",
        ),
    ],
)
def test_the_api_server_takes_all_of_it(site: Site, options: tuple[str, ...]) -> None:
    text = yaml.safe_dump_all(rendered(*options).values())
    dry = ("--server-side", "--validate=strict", "--force-conflicts", "--dry-run=server")
    site.kubectl("apply", *dry, "-f", "-", input=text)
