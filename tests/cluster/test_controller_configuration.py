"""KServe comes after us: its services, and its ConfigMap, are picked up when they appear, without a restart."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import kserve
from tests.cluster.scene import Scene
from tests.support.controlplane import ControlPlane
from tests.support.fleet import FleetThread
from tests.support.programs import Controller

NAMESPACE = "kserve-of-configuration"


@pytest.fixture(scope="module")
def controller(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Controller]:
    """Begins in a cluster without KServe."""
    kserve.uninstall(control_plane)
    settings = {"settle_seconds": 0.05, "kserve_namespace": NAMESPACE, "recheck_seconds": 2}
    made = Controller(control_plane, tmp_path_factory.mktemp("controller"), settings=settings)
    made.start_ready()
    yield made
    kserve.uninstall(control_plane)
    control_plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false", "--ignore-not-found")
    made.stop()


@pytest.fixture(scope="module")
def scene(control_plane: ControlPlane, controller: Controller) -> Iterator[Scene]:
    """A group `gpu` with the ready node a, whose agent finishes everything, a namespace `team` and a cache `m`."""
    with FleetThread(control_plane.admin_kubeconfig):
        made = Scene(control_plane)
        made.add_group()
        made.add_node("a")
        made.add_namespace("team")
        made.add_cache()
        yield made
        made.clean()


def configure(scene: Scene, text: str) -> None:
    scene.control_plane.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "inferenceservice-config", "namespace": NAMESPACE},
            "data": {"localModel": text},
        },
    )


def has_claim(scene: Scene, cache: str) -> bool:
    name = f"{cache}-{scene.name('gpu')}"
    found = scene.read("persistentvolumeclaim", name, namespace=scene.name("team"))
    return found is not None


def configured(scene: Scene) -> str:
    """Why the group says that it is not Configured; "" when it says nothing."""
    group: dict[str, Any] = scene.read("localmodelnodegroup", "gpu") or {}
    conditions = group.get("status", {}).get("conditions", ())
    return next((c["reason"] for c in conditions if c["type"] == "Configured"), "")


def test_kserve_is_not_needed_and_is_noticed_when_it_comes(scene: Scene) -> None:
    scene.wait(scene.ready, "ready without KServe")
    kserve.install(scene.control_plane, kserve.INFERENCE, kserve.LLM)
    scene.add_service("s")
    scene.add_service("t", kind=kserve.LLM)
    scene.wait(lambda: has_claim(scene, "m"), "claim")
    scene.wait(
        lambda: (
            len(scene.status().get("inferenceServices", ())) == 1
            and len(scene.status().get("llmInferenceServices", ())) == 1
        ),
        "both kinds in the status",
    )


def test_the_configuration_is_followed_and_the_last_good_values_stay_when_it_breaks(
    scene: Scene, controller: Controller
) -> None:
    scene.wait(lambda: bool(scene.status().get("inferenceServices")), "services are watched")
    configure(scene, json.dumps({"disableVolumeManagement": True}))
    scene.wait(lambda: controller.state()["volumes_managed"] is False, "disabled")
    scene.add_cache("n")
    scene.add_service("u", "n")
    scene.wait(lambda: bool(scene.status("n").get("inferenceServices")), "service is listed")
    configure(scene, "{disable")
    scene.wait(lambda: configured(scene) == "ConfigInvalid", "told on the group")
    assert controller.state()["volumes_managed"] is False
    assert not has_claim(scene, "n")
    scene.wait(lambda: "ConfigInvalid" in configuration_events(scene), "told in an event")
    controller.stop()
    controller.start_ready()
    scene.add_cache("o")
    scene.wait(lambda: scene.ready("o"), "placed by a controller that never saw good values")
    assert controller.state()["volumes_managed"] is None
    assert not has_claim(scene, "n")
    configure(scene, json.dumps({"jobNamespace": "somewhere-else"}))
    scene.wait(lambda: configured(scene) == "CredentialsNamespaceMismatch", "mismatch is told")
    scene.wait(lambda: has_claim(scene, "n"), "volumes are made again")
    scene.control_plane.kubectl("delete", "configmap", "inferenceservice-config", "-n", NAMESPACE)
    scene.wait(lambda: configured(scene) == "", "absent is fine")


def test_what_is_wrong_with_the_installation_is_said_with_the_command_that_mends_it(
    scene: Scene, controller: Controller
) -> None:
    plane = scene.control_plane
    crd = "localmodelcaches.serving.kserve.io"
    status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties"
    stripped = [{"op": "remove", "path": f"{status}/progress"}]
    plane.kubectl("patch", "crd", crd, "--type=json", "-p", json.dumps(stripped))
    scene.wait(lambda: controller.get("/readyz")[0] == 503, "not ready")
    assert "lacks status.progress" in controller.get("/readyz")[1]
    assert 'problem{reason="CRDsOutdated"} 1.0' in controller.get("/metrics")[1]
    assert "kubectl apply --server-side --force-conflicts -k deploy/crds" in controller.output()
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-k", "deploy/crds")
    scene.wait(lambda: controller.ready, "ready again")
    name = "localmodelcache.serving.kserve.io"
    plane.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [],
        }
    )
    scene.wait(
        lambda: 'problem{reason="WebhookLeftBehind"} 1.0' in controller.get("/metrics")[1], "metric"
    )
    plane.kubectl("delete", "validatingwebhookconfiguration", name)
    scene.wait(
        lambda: 'problem{reason="WebhookLeftBehind"} 0.0' in controller.get("/metrics")[1], "mended"
    )


def configuration_events(scene: Scene) -> set[str]:
    text = scene.control_plane.kubectl("get", "events", "-n", NAMESPACE, "-o", "json")
    return {event["reason"] for event in json.loads(text)["items"]}


def test_the_log_level_follows_the_file_while_it_runs(scene: Scene, controller: Controller) -> None:
    config = controller.log.with_suffix(".yaml")
    usual = config.read_text()
    config.write_text(f"{usual}log_level: debug\n")
    scene.wait(lambda: "log level changed" in controller.output(), "taken up", seconds=30)
    assert controller.running
    config.write_text(usual)


def test_the_queues_can_be_seen(controller: Controller) -> None:
    queues = controller.state()["queues"]
    assert queues.keys() == {"nodes", "caches", "groups", "volumes", "settling"}
    assert queues["nodes"]["waiting"] == 0
