"""The client layer on a real API server: what it reads, writes, and is refused."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from shared.domain.reasons import Reason
from shared.kube import errors
from shared.kube.client import KubeClient
from shared.kube.events import EventRecorder, ObjectRef
from shared.kube.heartbeat import Heartbeat
from shared.kube.library import Configuration
from shared.kube.resource import CONFIG_MAPS, EVENTS, LEASES, LOCAL_MODEL_NODES
from shared.kube.transport import Wire
from tests.support.cluster import AGENTS_NAMESPACE
from tests.support.controlplane import ControlPlane

NAMESPACE = "default"


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    made = await KubeClient.connect(
        kubeconfig=control_plane.admin_kubeconfig, manager="tester", qps=1000, burst=1000
    )
    yield made
    await made.close()


def config_map(name: str, group: str, **data: str) -> Wire:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"test": group}},
        "data": data,
    }


def node(name: str, **parts: Any) -> Wire:
    return {
        "apiVersion": LOCAL_MODEL_NODES.api_version,
        "kind": LOCAL_MODEL_NODES.kind,
        "metadata": {"name": name},
        **parts,
    }


def managers(wire: Wire) -> set[tuple[str, str, str]]:
    """Who owns fields of what (`""`: the object itself), and how they came there."""
    return {
        (entry["manager"], entry.get("subresource", ""), entry["operation"])
        for entry in wire["metadata"]["managedFields"]
    }


async def create(client: KubeClient, *bodies: Wire) -> list[Wire]:
    return [await client.create(CONFIG_MAPS, body, namespace=NAMESPACE) for body in bodies]


async def test_a_list_is_the_same_in_pages_of_any_size(client: KubeClient) -> None:
    names = [f"page-{number}" for number in range(5)]
    await create(client, *(config_map(name, "pages") for name in names))
    for limit in (1, 2, 5, 100):
        items, version = await client.list(
            CONFIG_MAPS, namespace=NAMESPACE, label_selector="test=pages", limit=limit
        )
        assert [item["metadata"]["name"] for item in items] == names
        assert version.isdecimal()


async def test_a_watch_of_nothing_is_moved_on_by_a_bookmark(client: KubeClient) -> None:
    _, version = await client.list(CONFIG_MAPS, namespace=NAMESPACE, label_selector="test=none")

    async def first() -> tuple[str, Wire]:
        # The server means to send one two seconds before it ends a stream, and now and then is late.
        while True:
            events = client.watch(
                CONFIG_MAPS,
                resource_version=version,
                timeout_seconds=6,
                namespace=NAMESPACE,
                label_selector="test=none",
            )
            async for event in events:
                return event

    async with asyncio.timeout(60):
        bookmark = asyncio.create_task(first())
        # There is a bookmark only where something happened since the stream began.
        for number in range(1000):
            await create(client, config_map(f"elsewhere-{number}", "bookmark"))
            if (await asyncio.wait([bookmark], timeout=0.2))[0]:
                break
        kind, wire = await bookmark
    assert kind == "BOOKMARK"
    assert int(wire["metadata"]["resourceVersion"]) > int(version)


async def test_applied_fields_have_one_manager_and_go_when_they_are_left_out(
    client: KubeClient,
) -> None:
    await client.apply(CONFIG_MAPS, config_map("ours", "apply", a="1", b="2"), namespace=NAMESPACE)
    applied = await client.apply(
        CONFIG_MAPS, config_map("ours", "apply", b="3"), namespace=NAMESPACE
    )
    assert applied["data"] == {"b": "3"}
    assert managers(applied) == {("tester", "", "Apply")}


async def test_status_is_applied_apart_and_neither_part_touches_the_other(
    client: KubeClient, control_plane: ControlPlane
) -> None:
    agent = await KubeClient.connect(
        kubeconfig=control_plane.admin_kubeconfig, manager="agent", qps=100, burst=100
    )
    await client.apply(LOCAL_MODEL_NODES, node("layer-1", spec={"localModels": []}))
    status = {"modelStatus": {"m": "ModelDownloaded"}, "observedGeneration": 1}
    await agent.apply(LOCAL_MODEL_NODES, node("layer-1", status=status), subresource="status")
    await client.apply(
        LOCAL_MODEL_NODES, node("layer-1", spec={"localModels": []}, status={"modelStatus": {}})
    )
    got = await client.get(LOCAL_MODEL_NODES, "layer-1")
    assert got["status"]["modelStatus"] == {"m": "ModelDownloaded"}
    assert got["spec"] == {"localModels": []}
    assert managers(got) == {("tester", "", "Apply"), ("agent", "status", "Apply")}
    await agent.close()


async def test_a_field_of_another_manager_is_taken_by_force_or_not_at_all(
    client: KubeClient, control_plane: ControlPlane
) -> None:
    other = await KubeClient.connect(
        kubeconfig=control_plane.admin_kubeconfig, manager="other", qps=100, burst=100
    )
    await other.apply(CONFIG_MAPS, config_map("theirs", "force", a="1"), namespace=NAMESPACE)
    ours = config_map("theirs", "force", a="2")
    with pytest.raises(errors.Conflict, match="other"):
        await client.apply(CONFIG_MAPS, ours, namespace=NAMESPACE, force=False)
    taken = await client.apply(CONFIG_MAPS, ours, namespace=NAMESPACE)
    assert taken["data"] == {"a": "2"}
    (entry,) = (e for e in taken["metadata"]["managedFields"] if e["manager"] == "tester")
    assert "f:a" in json.dumps(entry)
    await other.close()


async def test_each_refusal_of_the_server_is_its_own_error(
    client: KubeClient, control_plane: ControlPlane
) -> None:
    (there,) = await create(client, config_map("there", "errors", a="1"))
    with pytest.raises(errors.NotFound):
        await client.get(CONFIG_MAPS, "not-there", namespace=NAMESPACE)
    with pytest.raises(errors.AlreadyExists):
        await create(client, config_map("there", "errors"))
    await client.update(CONFIG_MAPS, {**there, "data": {"a": "2"}}, namespace=NAMESPACE)
    with pytest.raises(errors.Conflict):
        await client.update(CONFIG_MAPS, {**there, "data": {"a": "3"}}, namespace=NAMESPACE)
    version = there["metadata"]["resourceVersion"]
    with pytest.raises(errors.Conflict):
        await client.delete(CONFIG_MAPS, "there", namespace=NAMESPACE, resource_version=version)
    outdated = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}]
    with pytest.raises(errors.Invalid):
        await client.json_patch(CONFIG_MAPS, "there", outdated, namespace=NAMESPACE)
    with pytest.raises(errors.Invalid):
        await client.apply(LOCAL_MODEL_NODES, node("layer-2", spec={"localModels": [{}]}))
    agent = await KubeClient.connect(
        kubeconfig=control_plane.kubeconfig_for("localmodel-agent", AGENTS_NAMESPACE),
        manager="agent",
        qps=100,
        burst=100,
    )
    with pytest.raises(errors.Forbidden):
        await agent.delete(CONFIG_MAPS, "there", namespace=NAMESPACE)
    await agent.close()


async def test_a_wrong_token_and_a_wrong_server_are_told_apart(control_plane: ControlPlane) -> None:
    token = {"BearerToken": "Bearer nonsense"}
    configuration = Configuration(host=control_plane.url, api_key=token)
    configuration.verify_ssl = False
    stranger = KubeClient(configuration, manager="stranger", qps=100, burst=100)
    with pytest.raises(errors.Unauthorized):
        await stranger.get(CONFIG_MAPS, "x", namespace=NAMESPACE)
    await stranger.close()
    untrusted = KubeClient(
        Configuration(host=control_plane.url, api_key=token),
        manager="stranger",
        qps=100,
        burst=100,
    )
    with pytest.raises(errors.Unreachable, match="certificate"):
        await untrusted.create(CONFIG_MAPS, config_map("x", "y"), namespace=NAMESPACE)
    await untrusted.close()


async def test_the_server_takes_events_of_any_length_and_counts_repetitions(
    client: KubeClient, control_plane: ControlPlane
) -> None:
    recorder = EventRecorder(client, component="tester", instance="i" * 300)
    about = ObjectRef(LOCAL_MODEL_NODES.api_version, LOCAL_MODEL_NODES.kind, "n" * 199 + "-x")
    task = asyncio.create_task(recorder.run())
    for message in ("é" * 1000, "again", "again", "again"):
        recorder.event(
            about, type="Warning", reason=Reason.SOURCE_ERROR, message=message, action="Download"
        )
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    items, _ = await client.list(EVENTS, namespace=NAMESPACE)
    counts = {
        item["note"]: (item.get("series") or {}).get("count", 1)
        for item in items
        if item["regarding"]["name"] == about.name
    }
    assert counts == {"é" * 512: 1, "again": 3}


async def test_a_heartbeat_is_a_lease_that_moves_and_comes_back(client: KubeClient) -> None:
    beat = Heartbeat(client, namespace=NAMESPACE, name="beat", identity="node-1", seconds=0.05)
    task = asyncio.create_task(beat.run())
    seen: set[str] = set()
    async with asyncio.timeout(20):
        while len(seen) < 3:
            with suppress(errors.NotFound):
                lease = await client.get(LEASES, "beat", namespace=NAMESPACE)
                seen.add(lease["spec"]["renewTime"])
        await client.delete(LEASES, "beat", namespace=NAMESPACE)
        gone = len(seen)
        while len(seen) <= gone:
            with suppress(errors.NotFound):
                lease = await client.get(LEASES, "beat", namespace=NAMESPACE)
                seen.add(lease["spec"]["renewTime"])
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
