"""`node` and `gc`: a disk, what is on it, what may go."""

from typing import Any

import pytest

from controller.cli.pages.events import happenings
from controller.cli.pages.facts import cache_facts, node_facts
from controller.cli.pages.node import Silence, is_silent, page
from controller.cli.pages.text import plain
from controller.cli.pages.unused import page as unused_page
from controller.cli.pages.unused import unused
from tests.unit.cli.fleet import (
    DISK,
    GIB,
    LATER,
    Cluster,
    cache,
    done,
    facts,
    failed,
    group,
    loading,
    node,
    report,
    time,
    works,
)
from tests.unit.cli.picture import compare


def event(reason: str, message: str, at: int, **more: Any) -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "type": "Normal",
        "reportingComponent": "localmodel-controller",
        "eventTime": time(at),
        **more,
    }


def busy() -> dict[str, Any]:
    made = Cluster()
    made.put("group", group(limit="1Ti"))
    made.put("node", node("gpu-1"))
    for name in ("llama", "mistral", "phi", "qwen"):
        made.put("cache", cache(name, uri=f"s3://models/{name}", size="130Gi"))
    made.settle()
    made.report(
        "gpu-1",
        done("llama", "s3://models/llama"),
        loading("mistral", 0.4, uri="s3://models/mistral"),
        failed("phi", "SourceNotFound", "no such key models/phi", uri="s3://models/phi"),
        report(
            "gone",
            "s3://models/gone",
            "",
            reason="Evicting",
            message="is being removed",
            bytesDone=GIB,
        ),
        storage={**DISK, "reservedBytes": 78 * GIB},
        agent={"version": "1.0", "hostPath": "/models", "startTime": time(-7200)},
    )
    return made.stored["work", "gpu-1"]


def test_a_node_in_one_look() -> None:
    events = happenings(
        [
            event("Downloaded", "downloaded llama (130 GiB)", -3600),
            event(
                "SourceNotFound",
                "phi: no such key",
                -60,
                type="Warning",
                series={"count": 4, "lastObservedTime": time(-5)},
            ),
            event("NodeReady", "of kubelet", -1, reportingComponent="kubelet"),
            event("Placed", "of a stranger", -1, reportingComponent="stranger"),
        ]
    )
    compare("node", page(node_facts(busy()), ready=True, events=events, silence=None, now=LATER))


def test_what_a_silent_agent_said_last_is_not_shown_as_if_it_were_now() -> None:
    wire = busy()
    wire["metadata"]["managedFields"] = [
        {"manager": "localmodel-controller", "time": time(-5)},
        {"manager": "localmodel-agent", "subresource": "status", "time": time(-600)},
    ]
    found = node_facts(wire)
    silence = Silence(found.said)
    text = plain(page(found, ready=True, events=[], silence=silence, now=LATER))
    assert "Its agent has been silent for 10m: what follows is what it said last" in text
    head = next(row for row in text.splitlines() if row.startswith("MODEL"))
    assert not {"RATE", "LEFT"} & set(head.split())
    assert "NEXT TRY" not in head
    assert "silent" not in plain(page(found, ready=True, events=[], silence=None, now=LATER))


@pytest.mark.parametrize("ready", [True, False])
def test_whether_an_agent_is_silent_is_read_from_the_caches(ready: bool) -> None:
    made = Cluster()
    made.put("group", group(limit="1Ti"))
    made.put("node", node("a", ready=ready))
    made.put("cache", cache("llama"))
    made.settle()
    made.report("a", done("llama"))
    made.settle()

    def silent() -> bool:
        return is_silent(works(made)["a"], [facts(made, "llama")])

    assert not silent()
    made.silence("a")
    made.settle()
    assert silent()
    made.silence()
    made.settle()
    assert not silent()


def test_a_node_whose_agent_has_never_answered() -> None:
    wire = {"metadata": {"name": "n", "generation": 1}, "spec": {"localModels": []}}
    text = plain(page(node_facts(wire), ready=None, events=None, silence=None, now=LATER))
    assert "no agent has answered" in text
    assert "Nothing is known of its disk" in text
    assert "Its work list is empty." in text
    assert "you may not list them" in text


def test_a_cache_folder_that_cannot_be_used_is_told() -> None:
    wire = busy()
    wire["status"]["conditions"] = [
        {
            "type": "StorageReady",
            "status": "False",
            "reason": "StorageNotReady",
            "message": "read-only",
        }
    ]
    assert "StorageNotReady: read-only" in plain(
        page(node_facts(wire), ready=False, events=[], silence=None, now=LATER)
    )


def test_what_no_service_uses_is_listed_by_size_and_age() -> None:
    made = Cluster()
    made.put("group", group(limit="1Ti"))
    made.put("node", node("a"))
    for at, name in enumerate(("small", "big", "used", "old", "going")):
        made.put("cache", cache(name, uri=f"s3://models/{name}", size="1Gi", created=60 * at))
    made.settle()
    made.report(
        "a",
        *(
            done(name, f"s3://models/{name}", size * GIB)
            for name, size in (("small", 1), ("big", 500), ("used", 900), ("old", 1), ("going", 5))
        ),
    )
    made.settle()
    made.remove("cache", "going")
    wire = made.stored["cache", "used"]
    wire = {
        **wire,
        "status": {**wire["status"], "inferenceServices": [{"namespace": "team", "name": "s"}]},
    }
    found = [*(facts(made, name) for name in ("small", "big", "old", "going")), cache_facts(wire)]
    assert [one.key for one in unused(found)] == ["big", "small", "old"]
    compare("gc", unused_page(found, now=LATER))
    made.put("cache", cache("theirs", namespace="team"))
    text = plain(unused_page([facts(made, "team/theirs")], now=LATER))
    assert text.endswith("kubectl delete localmodelnamespacecache -n NAMESPACE NAME\n")
    assert "delete localmodelcache" not in text
    assert "Every one of 1 cache is used" in plain(unused_page([cache_facts(wire)], now=LATER))
