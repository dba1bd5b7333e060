"""The models: what they write they read back, and they read what other clients write."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from shared.api.cache import (
    CacheProgress,
    CacheSpec,
    CacheStatus,
    Copies,
    LocalModelCache,
    LocalModelNamespaceCache,
    NamespacedName,
    NodeState,
    Storage,
)
from shared.api.group import GroupNodes, GroupSpec, GroupStatus, LocalModelNodeGroup
from shared.api.meta import Condition, KubeObject, ObjectMeta
from shared.api.node import (
    AgentInfo,
    LocalModelInfo,
    LocalModelNode,
    LocalModelNodeStatus,
    ModelReport,
    ModelState,
    NodeSpec,
    NodeStorage,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
READY = Condition(
    type="Ready", status="True", reason="Available", last_transition_time=NOW, observed_generation=2
)
SPEC = CacheSpec(
    source_model_uri="s3://models/llama",
    model_size="10Gi",
    node_groups=("gpu", "cpu"),
    service_account_name="reader",
    storage=Storage(key="minio", parameters={"region": "eu"}),
    allow_patterns=("*.safetensors",),
    ignore_patterns=(),
)
CACHE_STATUS = CacheStatus(
    observed_generation=2,
    copies=Copies(available=3, total=4, failed=1),
    node_status={"a": NodeState.DOWNLOADED, "b": NodeState.UNKNOWN},
    inference_services=(NamespacedName(namespace="team", name="chat"),),
    llm_inference_services=(NamespacedName(name="agent"),),
    progress=CacheProgress(bytes_done=3, bytes_total=4, percent=75),
    revision="abc",
    conditions=(READY,),
)
GIB = 2**30


def model(key: str, state: ModelState, rate: int | None = None) -> ModelReport:
    return ModelReport(
        key=key, storage_key="0123456789abcdef", state=state, bytes_per_second=rate, start_time=NOW
    )


NODE_STATUS = LocalModelNodeStatus(
    observed_generation=7,
    model_status={"a": ModelState.DOWNLOADED, "team/b": ModelState.DOWNLOADING},
    models=(
        model("a", ModelState.DOWNLOADED),
        model("team/b", ModelState.DOWNLOADING, 512 * 2**20),
        model("c", ModelState.DOWNLOADING, 256 * 2**20),
        model("d", ModelState.DOWNLOAD_ERROR),
    ),
    storage=NodeStorage(
        capacity_bytes=100 * GIB, available_bytes=40 * GIB, used_bytes=3 * GIB // 2
    ),
    agent=AgentInfo(version="1.0", start_time=NOW, host_path="/models"),
    conditions=(READY,),
)
OBJECTS: list[KubeObject] = [
    LocalModelCache(metadata=ObjectMeta(name="llama"), spec=SPEC, status=CACHE_STATUS),
    LocalModelNamespaceCache(
        metadata=ObjectMeta(name="llama", namespace="team"), spec=SPEC, status=CACHE_STATUS
    ),
    LocalModelNodeGroup(
        metadata=ObjectMeta(name="gpu"),
        spec=GroupSpec(
            storage_limit="1Ti",
            persistent_volume_spec={"local": {"path": "/models"}, "mountOptions": ["ro"]},
            persistent_volume_claim_spec={"accessModes": ["ReadOnlyMany"]},
        ),
        status=GroupStatus(used="1Gi", available=7, nodes=GroupNodes(total=2, ready=1), caches=1),
    ),
    LocalModelNode(
        metadata=ObjectMeta(name="node-1"),
        spec=NodeSpec(
            local_models=(
                LocalModelInfo(source_model_uri="hf://o/r", model_name="m", namespace="team"),
            )
        ),
        status=NODE_STATUS,
    ),
]


@pytest.mark.parametrize("item", OBJECTS, ids=lambda item: item.KIND)
def test_what_is_written_is_read_back(item: KubeObject) -> None:
    wire = item.to_wire()
    assert wire["apiVersion"] == "serving.kserve.io/v1alpha1"
    assert wire["kind"] == item.KIND
    assert type(item).model_validate(wire) == item
    assert None not in _values(wire)


@pytest.mark.parametrize("item", OBJECTS, ids=lambda item: item.KIND)
def test_fields_of_a_newer_client_are_ignored(item: KubeObject) -> None:
    wire = item.to_wire()
    wire["spec"]["fromTheFuture"] = wire["fromTheFuture"] = {"a": 1}
    assert type(item).model_validate(wire) == item


@pytest.mark.parametrize("item", OBJECTS, ids=lambda item: item.KIND)
def test_values_cannot_be_changed(item: KubeObject) -> None:
    with pytest.raises(ValidationError):
        item.metadata = ObjectMeta(name="other")  # type: ignore[misc]  # that is the point


def test_kserves_minimal_objects_are_read() -> None:
    cache = LocalModelCache.model_validate(
        {
            "kind": "LocalModelCache",
            "metadata": {"name": "m", "creationTimestamp": None},
            "spec": {"sourceModelUri": "gs://b/m", "modelSize": "10Gi", "nodeGroups": ["workers"]},
            "status": {
                "copies": {"available": 1, "total": 1},
                "nodeStatus": {"n": "NodeDownloaded"},
            },
        }
    )
    assert cache.status.copies == Copies(available=1, total=1)
    node = LocalModelNode.model_validate(
        {
            "kind": "LocalModelNode",
            "metadata": {"name": "n"},
            "spec": {"localModels": [{"sourceModelUri": "gs://b/m", "modelName": "m"}]},
            "status": {"modelStatus": {"m": "ModelDownloaded"}},
        }
    )
    assert node.spec.local_models[0].namespace is None
    assert node.status.summary is None


@pytest.mark.parametrize("missing", [{}, {"spec": {}}, {"spec": {"localModels": None}}])
def test_a_node_without_a_work_list_is_not_one_with_an_empty_list(missing: dict[str, Any]) -> None:
    """An empty list means that everything is removed; nobody may mean that by leaving it out."""
    with pytest.raises(ValidationError):
        LocalModelNode.model_validate(
            {"kind": "LocalModelNode", "metadata": {"name": "n"}, **missing}
        )


def test_the_status_says_what_kubectl_shows() -> None:
    wire = CACHE_STATUS.to_wire()
    assert wire["copies"]["summary"] == "3/4"
    assert wire["progress"]["summary"] == "75%"
    assert NODE_STATUS.to_wire()["summary"] == {
        "models": "1/4",
        "failed": 1,
        "rate": "768Mi/s",
        "used": "1.5Gi",
        "free": "40.0Gi",
    }


def test_a_node_at_rest_shows_no_rate() -> None:
    status = LocalModelNodeStatus(models=(model("a", ModelState.DOWNLOADED),))
    assert status.to_wire()["summary"] == {"models": "1/1", "failed": 0}


def _values(value: Any) -> list[Any]:
    match value:
        case dict():
            return [v for child in value.values() for v in _values(child)]
        case list():
            return [v for child in value for v in _values(child)]
        case _:
            return [value]
