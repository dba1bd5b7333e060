"""The API as the API server serves it: what it takes, what it refuses and in which words, what it shows and explains."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.api.cache import CacheProgress, CacheStatus, Copies, NodeState
from shared.api.group import GroupNodes, GroupStatus
from shared.api.meta import Condition
from shared.api.node import LocalModelNodeStatus, ModelReport, ModelState, NodeStorage
from shared.domain.uri import SourceUri
from tests.support.controlplane import ControlPlane

API_VERSION = "serving.kserve.io/v1alpha1"
GOOD = {"sourceModelUri": "s3://models/llama", "modelSize": "10Gi", "nodeGroups": ["workers"]}

# Manifests as a user of KServe has them: written for its CRDs, without any field of ours.
CREDENTIALS_BY_ACCOUNT = {
    "sourceModelUri": "hf://meta-llama/meta-llama-3-8b-instruct",
    "modelSize": "10Gi",
    "nodeGroups": ["workers"],
    "serviceAccountName": "hf-downloader",
}
CREDENTIALS_BY_KEY = {
    "sourceModelUri": "s3://mybucket/mymodel",
    "modelSize": "5Gi",
    "nodeGroups": ["workers", "more-workers"],
    "storage": {"key": "my-s3-key", "parameters": {"type": "s3", "region": "us-west-2"}},
}
PLAIN_GROUP = {
    "storageLimit": "1.7T",
    "persistentVolumeClaimSpec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1700G"}},
        "storageClassName": "local-storage",
        "volumeMode": "Filesystem",
    },
    "persistentVolumeSpec": {
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "capacity": {"storage": "1700G"},
        "local": {"path": "/mnt/models"},
        "storageClassName": "local-storage",
        "nodeAffinity": {
            "required": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {
                                "key": "nvidia.com/gpu-product",
                                "operator": "In",
                                "values": ["NVIDIA-A100-SXM4-80GB"],
                            }
                        ]
                    }
                ]
            }
        },
    },
}
FULL_GROUP = {
    "storageLimit": 1099511627776,
    "persistentVolumeClaimSpec": {
        "accessModes": ["ReadOnlyMany"],
        "resources": {"requests": {"storage": 1024}, "limits": {"storage": "1Ti"}},
        "selector": {"matchLabels": {"a": "b"}},
        "dataSource": {"kind": "PersistentVolumeClaim", "name": "x"},
        "dataSourceRef": {"kind": "Y", "name": "x", "namespace": "z"},
        "volumeName": "v",
        "volumeAttributesClassName": "fast",
    },
    "persistentVolumeSpec": {
        "accessModes": ["ReadWriteMany", "ReadOnlyMany"],
        "capacity": {"storage": "1Ti"},
        "claimRef": {"kind": "PersistentVolumeClaim", "name": "x", "namespace": "y"},
        "csi": {
            "driver": "d",
            "volumeHandle": "h",
            "volumeAttributes": {"k": "v"},
            "readOnly": True,
        },
        "hostPath": {"path": "/models", "type": "DirectoryOrCreate"},
        "local": {"path": "/models", "fsType": "xfs"},
        "mountOptions": ["ro", "noatime"],
        "persistentVolumeReclaimPolicy": "Retain",
        "volumeAttributesClassName": "fast",
        "nodeAffinity": {
            "required": {
                "nodeSelectorTerms": [
                    {
                        "matchExpressions": [
                            {"key": "disk", "operator": "Gt", "values": ["1000"]},
                            {"key": "cordoned", "operator": "DoesNotExist"},
                            {"key": "gpu", "operator": "Exists", "values": []},
                        ],
                        "matchFields": [
                            {"key": "metadata.name", "operator": "NotIn", "values": ["node-7"]}
                        ],
                    },
                    {},
                ]
            }
        },
    },
}
WORK_LIST = {
    "localModels": [
        {"modelName": "llama", "sourceModelUri": "hf://meta-llama/meta-llama-3-8b-instruct"},
        {
            "modelName": "llama",
            "namespace": "my-team",
            "nodeGroup": "workers",
            "serviceAccountName": "hf-downloader",
            "sourceModelUri": "hf://meta-llama/meta-llama-3-8b-instruct",
            "storage": {"key": "k", "parameters": {"region": "eu"}},
        },
    ]
}


class Api:
    """Objects of one kind, given by their specs, as an admin with kubectl handles them."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane

    def apply(self, kind: str, spec: Any, *, name: str = "api-test", keep: bool = False) -> Any:
        """What the API server stores, or would store; RuntimeError with its words when it refuses."""
        body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        dry = () if keep else ("--dry-run=server",)
        text = self._control_plane.kubectl(
            "apply", "--validate=strict", *dry, "-o", "json", "-f", "-", input=json.dumps(body)
        )
        return json.loads(text)["spec"]

    def refusal(self, kind: str, spec: Any, *, name: str = "api-test") -> str:
        with pytest.raises(RuntimeError) as refused:
            self.apply(kind, spec, name=name)
        return str(refused.value)

    def set_status(self, kind: str, name: str, status: dict[str, Any]) -> dict[str, Any]:
        patch = json.dumps({"status": status})
        text = self._control_plane.kubectl(
            "patch", kind, name, "--subresource=status", "--type=merge", "-o", "json", "-p", patch
        )
        stored: dict[str, Any] = json.loads(text)["status"]
        return stored

    def table(self, kind: str, name: str, *options: str) -> dict[str, str]:
        """The line that `kubectl get` prints for the object, by column."""
        text = self._control_plane.kubectl("get", kind, name, *options)
        head, line = text.splitlines()
        starts = [word.start() for word in re.finditer(r"\S+", head)]
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        return dict(zip(head.split(), cells, strict=True))

    def explain(self, path: str) -> str:
        return " ".join(self._control_plane.kubectl("explain", path).split())

    def delete(self, kind: str, name: str) -> None:
        self._control_plane.kubectl("delete", kind, name)


@pytest.fixture
def api(control_plane: ControlPlane) -> Api:
    return Api(control_plane)


@pytest.mark.parametrize("kind", ["LocalModelCache", "LocalModelNamespaceCache"])
@pytest.mark.parametrize("spec", [CREDENTIALS_BY_ACCOUNT, CREDENTIALS_BY_KEY], ids=["sa", "key"])
def test_caches_written_for_kserve_apply_and_are_stored_as_they_are(
    api: Api, kind: str, spec: dict[str, Any]
) -> None:
    assert api.apply(kind, spec) == spec


@pytest.mark.parametrize("spec", [PLAIN_GROUP, FULL_GROUP], ids=["plain", "full"])
def test_groups_written_for_kserve_keep_every_field_of_their_volumes(
    api: Api, spec: dict[str, Any]
) -> None:
    assert api.apply("LocalModelNodeGroup", spec) == spec


def test_work_lists_that_kserves_controller_writes_are_stored_as_they_are(api: Api) -> None:
    assert api.apply("LocalModelNode", WORK_LIST) == WORK_LIST


def test_the_examples_apply(control_plane: ControlPlane) -> None:
    folder = Path(__file__).parents[2] / "deploy" / "examples"
    documents = [d for file in folder.glob("*.yaml") for d in yaml.safe_load_all(file.read_text())]
    for document in documents:
        if document["kind"] == "Namespace":  # a dry run makes none for what is in it
            control_plane.apply(document)
    applied = control_plane.kubectl(
        "apply", "--validate=strict", "--dry-run=server", "-f", str(folder)
    )
    assert applied.count("(server dry run)") == len(documents)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("LocalModelCache", {"sourceModelUri": "models/llama"}, "spec.sourceModelUri: … must start with a scheme"),
        ("LocalModelCache", {"sourceModelUri": "s3:/models"}, "spec.sourceModelUri: … must start with a scheme"),
        ("LocalModelCache", {"sourceModelUri": "s3://"}, "spec.sourceModelUri: … must start with a scheme"),
        ("LocalModelCache", {"sourceModelUri": None}, "spec.sourceModelUri: Required value"),
        ("LocalModelCache", {"sourceModelUri": "s3://b/" + "a" * 2048}, "spec.sourceModelUri: Too long"),
        ("LocalModelCache", {"nodeGroups": []}, "spec.nodeGroups: … should have at least 1 items"),
        ("LocalModelCache", {"nodeGroups": None}, "spec.nodeGroups: Required value"),
        ("LocalModelCache", {"nodeGroups": [""]}, "spec.nodeGroups[0]: … should be at least 1 chars long"),
        ("LocalModelCache", {"nodeGroups": ["g"] * 65}, "spec.nodeGroups: Too many"),
        ("LocalModelCache", {"modelSize": "-1Gi"}, "spec.modelSize: … must be a quantity such as 10Gi, and not negative"),
        ("LocalModelCache", {"modelSize": -1}, "spec.modelSize: … must be a quantity such as 10Gi, and not negative"),
        ("LocalModelCache", {"modelSize": "10GB"}, "spec.modelSize: … must be a quantity such as 10Gi, and not negative"),
        ("LocalModelCache", {"modelSize": ""}, "spec.modelSize: … must be a quantity such as 10Gi, and not negative"),
        ("LocalModelCache", {"modelSize": 1.5}, "spec.modelSize: … must be of type integer,string"),
        ("LocalModelCache", {"modelSize": None}, "spec.modelSize: Required value"),
        ("LocalModelCache", {"allowPatterns": ["a", "/etc/passwd"]}, "spec.allowPatterns[1]: … must not start with /"),
        ("LocalModelCache", {"allowPatterns": ["a/../b"]}, "spec.allowPatterns[0]: … must not start with / or hold .."),
        ("LocalModelCache", {"ignorePatterns": [".."]}, "spec.ignorePatterns[0]: … must not start with / or hold .."),
        ("LocalModelCache", {"ignorePatterns": ["a" * 257]}, "spec.ignorePatterns[0]: Too long"),
        ("LocalModelCache", {"allowPatterns": ["a"] * 65}, "spec.allowPatterns: Too many"),
        ("LocalModelCache", {"allowPattern": ["a"]}, 'unknown field "spec.allowPattern"'),
        ("LocalModelCache", {"storage": {"params": {}}}, 'unknown field "spec.storage.params"'),
        ("LocalModelNamespaceCache", {"sourceModelUri": "llama"}, "spec.sourceModelUri: … must start with a scheme"),
        ("LocalModelNamespaceCache", {"modelSize": "big"}, "spec.modelSize: … must be a quantity such as 10Gi"),
        ("LocalModelNamespaceCache", {"nodeGroups": []}, "spec.nodeGroups: … should have at least 1 items"),
        ("LocalModelNamespaceCache", {"pvcRef": "shared"}, 'unknown field "spec.pvcRef"'),
        ("LocalModelNamespaceCache", {"allowPatterns": ["/a"]}, "spec.allowPatterns[0]: … must not start with /"),
    ],
)  # fmt: skip
def test_bad_caches_are_refused_by_the_name_of_the_field(
    api: Api, kind: str, change: dict[str, Any], words: str
) -> None:
    assert_says(api.refusal(kind, _changed(GOOD, change)), words)


TERMS = ("persistentVolumeSpec", "nodeAffinity", "required", "nodeSelectorTerms")
TERM = "spec.persistentVolumeSpec.nodeAffinity.required.nodeSelectorTerms[0]"


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("storageLimit",), "-1Ti", "spec.storageLimit: … must be a quantity such as 10Gi, and not negative"),
        (("storageLimit",), "much", "spec.storageLimit: … must be a quantity such as 10Gi, and not negative"),
        (("storageLimit",), None, "spec.storageLimit: Required value"),
        (("persistentVolumeSpec",), None, "spec.persistentVolumeSpec: Required value"),
        (("persistentVolumeSpec", "local", "path"), 7, "spec.persistentVolumeSpec.local.path: … must be of type string"),
        (("persistentVolumeSpec", "nodeAffinity", "requires"), {}, 'nodeAffinity.requires"'),
        (TERMS, [], "nodeSelectorTerms: … should have at least 1 items"),
        (TERMS, [{"matchExpression": []}], f'unknown field "{TERM}.matchExpression"'),
        (TERMS, [{"matchExpressions": [{"key": "a", "operator": "Is"}]}], f"{TERM}.matchExpressions[0].operator: Unsupported value"),
        (TERMS, [{"matchExpressions": [{"key": "a", "operator": "In"}]}], f"{TERM}.matchExpressions[0]: … values must be given"),
        (TERMS, [{"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}], f"{TERM}.matchExpressions[0]: … values must be given"),
        (TERMS, [{"matchFields": [{"key": "a", "operator": "Gt", "values": ["b"]}]}], f"{TERM}.matchFields[0]: … must be one integer"),
    ],
)  # fmt: skip
def test_bad_groups_are_refused_by_the_name_of_the_field(
    api: Api, where: tuple[str, ...], value: Any, words: str
) -> None:
    spec = json.loads(json.dumps(PLAIN_GROUP))
    inner = spec
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = value
    assert_says(api.refusal("LocalModelNodeGroup", spec), words)


def test_a_work_list_cannot_be_left_out(api: Api) -> None:
    """To an agent an empty list means that everything is removed."""
    assert_says(api.refusal("LocalModelNode", {}), "spec.localModels: Required value")
    assert_says(api.refusal("LocalModelNode", None), "spec: Required value")
    assert api.apply("LocalModelNode", {"localModels": []}) == {"localModels": []}


@pytest.mark.parametrize("kind", ["LocalModelCache", "LocalModelNamespaceCache"])
def test_everything_but_the_source_may_be_edited(api: Api, kind: str) -> None:
    name = "api-edited"
    api.apply(kind, GOOD, name=name, keep=True)
    try:
        words = "spec.sourceModelUri: … sourceModelUri cannot be changed: create another cache"
        other = {**GOOD, "sourceModelUri": "s3://models/other"}
        assert_says(api.refusal(kind, other, name=name), words)
        edited = {"modelSize": "1Ti", "nodeGroups": ["b"], "allowPatterns": ["*.bin", "..a", "a/"]}
        assert api.apply(kind, {**GOOD, **edited}, name=name) == {**GOOD, **edited}
    finally:
        api.delete(kind, name)


SERVED = [
    "s3://models/llama",
    "S3://models",
    "gs://my-bucket/a b/ü/*",
    "s3://models/what?is#this@here:x",
    "hf://owner/repo",
    "hf://owner/repo:refs/pr/1",
    "https://example.com:8443/m.tar.gz?sig=a@b",
    "https://[::1]/m",
    "file:///models/..m/m..",
    "az://container/blob",
    "abfss://container@account.dfs.core.windows.net/path",
    "oci://registry.example.com/llama:v1",
    "pvc://claim/folder",
]
REFUSED = [
    ("s3://key:secret@models/a", "must not hold credentials"),
    ("HTTPS://token@example.com/m", "must not hold credentials"),
    ("hf://token@owner/repo", "must not hold credentials"),
    ("ftp://user:secret@example.com/m", "must not hold credentials"),
    ("s3:///a", "must name a bucket or host"),
    ("https:///m", "must name a bucket or host"),
    ("hf://gpt2", "must be hf://owner/repo"),
    ("hf://owner/repo/file", "must be hf://owner/repo"),
    ("file://models/m", "must hold an absolute path without .."),
    ("file:///models/../etc", "must hold an absolute path without .."),
    ("file:///models/..", "must hold an absolute path without .."),
    ("s3://models/a\n", "control characters"),
    ("s3://models/a\x7f", "control characters"),
    ("s3://models/a ", "begin or end with a space"),
]


@pytest.mark.parametrize("uri", SERVED)
def test_what_the_api_server_takes_the_agent_understands(api: Api, uri: str) -> None:
    assert api.apply("LocalModelCache", {**GOOD, "sourceModelUri": uri})["sourceModelUri"] == uri
    assert SourceUri.parse(uri).text == uri


@pytest.mark.parametrize(("uri", "words"), REFUSED)
def test_what_the_agent_would_refuse_the_api_server_refuses(api: Api, uri: str, words: str) -> None:
    refusal = api.refusal("LocalModelCache", {**GOOD, "sourceModelUri": uri})
    assert_says(refusal, f"spec.sourceModelUri: … {words}")
    with pytest.raises(ValueError, match=r"\w"):
        SourceUri.parse(uri)


READY = Condition(
    type="Ready",
    status="False",
    reason="CopyFailed",
    last_transition_time="2026-01-01T00:00:00Z",
)


def test_a_cache_shows_its_copies_in_one_line(api: Api) -> None:
    name = "api-columns"
    api.apply("LocalModelCache", GOOD, name=name, keep=True)
    try:
        status = CacheStatus(
            observed_generation=1,
            copies=Copies(available=3, total=4, failed=1),
            node_status={"a": NodeState.DOWNLOADED, "b": NodeState.UNKNOWN},
            progress=CacheProgress(bytes_done=3, bytes_total=4, percent=75),
            conditions=(READY,),
        ).to_wire()
        assert api.set_status("localmodelcache", name, status) == status
        shown = api.table("lmc", name)
        assert shown.pop("AGE")
        assert shown == {
            "NAME": name, "READY": "False", "COPIES": "3/4", "FAILED": "1", "PROGRESS": "75%", "SIZE": "10Gi",
        }  # fmt: skip
        wide = api.table("lmc", name, "-o", "wide")
        assert (wide["SOURCE"], wide["REASON"]) == ("s3://models/llama", "CopyFailed")
    finally:
        api.delete("localmodelcache", name)


def test_counts_that_kserves_clients_leave_out_read_as_zero(api: Api) -> None:
    name = "api-defaults"
    api.apply("LocalModelCache", GOOD, name=name, keep=True)
    try:
        stored = api.set_status("localmodelcache", name, {"copies": {"available": 1, "total": 1}})
        assert stored["copies"] == {
            "available": 1, "total": 1, "failed": 0, "downloading": 0, "pending": 0,
        }  # fmt: skip
    finally:
        api.delete("localmodelcache", name)


def test_a_node_shows_what_it_holds_and_what_moves(api: Api) -> None:
    name = "api-node"
    api.apply("LocalModelNode", WORK_LIST, name=name, keep=True)
    try:
        moving = ModelReport(
            key="my-team/llama",
            storage_key="0123456789abcdef",
            state=ModelState.DOWNLOADING,
            bytes_per_second=300 * 2**20,
        )
        done = moving.model_copy(
            update={"key": "llama", "state": ModelState.DOWNLOADED, "bytes_per_second": None}
        )
        status = LocalModelNodeStatus(
            model_status={"llama": done.state, "my-team/llama": moving.state},
            models=(done, moving),
            storage=NodeStorage(capacity_bytes=2**41, available_bytes=2**40, used_bytes=3 * 2**29),
            conditions=(READY.model_copy(update={"type": "StorageReady", "status": "True"}),),
        ).to_wire()
        assert api.set_status("localmodelnode", name, status) == status
        shown = api.table("lmn", name)
        assert shown.pop("AGE")
        assert shown == {
            "NAME": name, "STORAGE": "True", "MODELS": "1/2", "FAILED": "0", "RATE": "300Mi/s", "USED": "1.5Gi",
            "FREE": "1.0Ti",
        }  # fmt: skip
        kserves = {"modelStatus": {"llama": "ModelDownloaded", "my-team/llama": ""}}
        stored = api.set_status("localmodelnode", name, kserves)
        assert stored["modelStatus"] == kserves["modelStatus"]
    finally:
        api.delete("localmodelnode", name)


def test_a_group_shows_its_limit_and_what_is_left(api: Api) -> None:
    name = "api-group"
    api.apply("LocalModelNodeGroup", PLAIN_GROUP, name=name, keep=True)
    try:
        status = GroupStatus(
            observed_generation=1,
            used="10Gi",
            available="1Ti",
            nodes=GroupNodes(total=3, ready=2),
            caches=4,
            conditions=(READY,),
        ).to_wire()
        assert api.set_status("localmodelnodegroup", name, status) == status
        shown = api.table("lmng", name)
        assert shown.pop("AGE")
        assert shown == {
            "NAME": name, "READY": "False", "LIMIT": "1.7T", "USED": "10Gi", "AVAILABLE": "1Ti", "NODES": "3",
            "CACHES": "4",
        }  # fmt: skip
        zero = {"used": "0", "available": "0"}
        assert {**status, **zero} == api.set_status("localmodelnodegroup", name, zero)
    finally:
        api.delete("localmodelnodegroup", name)


@pytest.mark.parametrize("kind", ["LocalModelCache", "LocalModelNodeGroup"])
def test_an_object_that_nobody_looked_at_yet_says_so(
    control_plane: ControlPlane, kind: str
) -> None:
    """kstatus takes an object without a status for finished; an observedGeneration that differs is none."""
    body = {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "api-new"},
        "spec": GOOD if kind == "LocalModelCache" else PLAIN_GROUP,
    }
    answer = control_plane.kubectl(
        "create", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(body)
    )
    assert json.loads(answer)["status"] == {"observedGeneration": -1}


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("LocalModelCache", {"nodeStatus": {"n": "Sleeping"}}, "status.nodeStatus.n: Unsupported value"),
        ("LocalModelCache", {"copies": {"total": "4"}}, "status.copies.total: … must be of type integer"),
        ("LocalModelCache", {"conditions": [{"type": "Ready"}]}, "status.conditions[0].status: Required value"),
    ],
)  # fmt: skip
def test_a_status_of_the_wrong_shape_is_refused(
    api: Api, kind: str, status: dict[str, Any], words: str
) -> None:
    name = "api-status"
    api.apply(kind, GOOD, name=name, keep=True)
    try:
        with pytest.raises(RuntimeError) as refused:
            api.set_status(kind, name, status)
        assert_says(str(refused.value), words)
    finally:
        api.delete(kind, name)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("localmodelcache", "A model that the nodes of some groups hold on their disks"),
        ("lmc.spec.sourceModelUri", "s3://bucket/prefix"),
        ("lmc.spec.modelSize", "a quantity such as 10Gi"),
        ("lmc.spec.storage.parameters", "such as region"),
        ("lmc.status.copies.total", "NotReady ones included"),
        ("lmnc.spec.allowPatterns", "shell patterns"),
        ("lmng.spec.persistentVolumeSpec.nodeAffinity.required.nodeSelectorTerms", "Terms are ORed"),
        ("lmng.status.available", "Space left for models"),
        ("lmn.spec.localModels", "what is not listed is removed"),
        ("lmn.status.models.nextRetryTime", "When a failed copy is tried again"),
    ],
)  # fmt: skip
def test_explain_teaches(api: Api, path: str, words: str) -> None:
    assert words in api.explain(path)


def test_all_kinds_are_listed_by_their_category(control_plane: ControlPlane) -> None:
    listed = control_plane.kubectl("api-resources", "--categories=localmodel", "-o", "name")
    assert sorted(listed.split()) == [
        f"localmodel{kind}.serving.kserve.io"
        for kind in ("caches", "namespacecaches", "nodegroups", "nodes")
    ]


def _changed(spec: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """None removes the field."""
    return {name: value for name, value in {**spec, **change}.items() if value is not None}


def assert_says(refusal: str, words: str) -> None:
    """`…` stands for anything within one line, such as the value that was refused."""
    before, _, after = words.partition(" … ")
    lines = [line for line in refusal.splitlines() if before in line]
    assert any(after in line.split(before, 1)[1] for line in lines), refusal
