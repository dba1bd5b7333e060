"""What is told, and to whom: events follow changes, never repetitions."""

from typing import Any

import pytest

from controller.herald import Herald
from controller.planning.announce import node_news
from shared.domain import parse
from shared.domain.views import NodeView, WorkView
from shared.kube.events import ObjectRef
from tests.unit.controller.builders import GIB, Cluster, cache, group, node, report


def work(lines: list[str], *reports: dict[str, Any], uid: str = "1") -> WorkView:
    entries = [{"modelName": key, "sourceModelUri": f"s3://models/{key}"} for key in lines]
    return parse.work(
        {
            "metadata": {"name": "a", "uid": uid},
            "spec": {"localModels": entries},
            "status": {"models": list(reports)},
        }
    )


def model(key: str, state: str, **more: Any) -> dict[str, Any]:
    return report(key, f"s3://models/{key}", state, **more)


def told(was: WorkView, now: WorkView) -> list[tuple[str, str, str]]:
    return [(news.type, news.reason.value, news.message) for news in node_news(was, now)]


LOADING = model("m", "ModelDownloading")
DONE = model("m", "ModelDownloaded", bytesTotal=GIB)


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        (work([]), work(["m"]), ("Normal", "Placed", "to be held here: m")),
        (work(["m"]), work(["m"], LOADING), ("Normal", "Downloading", "downloading m")),
        (work(["m"], LOADING), work(["m"], DONE), ("Normal", "Downloaded", "downloaded m (1.0 GiB)")),
        (work([], DONE), work([]), ("Normal", "Deleted", "removed m")),
        (
            work(["m"], LOADING),
            work(["m"], model("m", "ModelDownloadError", reason="AccessDenied", message="403")),
            ("Warning", "AccessDenied", "m: 403"),
        ),
        (
            work(["m"]),
            work(["m"], model("m", "ModelDownloadError", reason="OfAnotherVersion")),
            ("Warning", "CopyFailed", "m: a copy failed for a reason that is not known here"),
        ),
    ],
)  # fmt: skip
def test_a_node_is_told_of_what_became_of_a_copy(
    was: WorkView, now: WorkView, expected: tuple[str, str, str]
) -> None:
    assert told(was, now) == [expected]


def test_many_copies_are_one_event() -> None:
    keys = [f"m{i}" for i in range(8)]
    assert told(work([]), work(keys)) == [
        ("Normal", "Placed", "to be held here: m0, m1, m2, m3, m4 and 3 more")
    ]


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (LOADING, {**LOADING, "bytesDone": 7}),
        (
            model("m", "ModelDownloadError", reason="SourceError", attempts=1),
            model("m", "ModelDownloadError", reason="SourceError", attempts=2, message="again"),
        ),
    ],
)
def test_progress_and_the_same_failure_again_are_no_news(
    was: dict[str, Any], now: dict[str, Any]
) -> None:
    assert told(work(["m"], was), work(["m"], now)) == []


def test_a_new_object_is_no_news_of_the_former_ones_copies() -> None:
    assert told(work(["m"], DONE), work([], uid="2")) == []


def test_a_cache_is_told_of_once_per_turn() -> None:
    cluster = Cluster()
    cluster.put("group", group())
    cluster.put("node", node("a"))
    cluster.put("cache", cache("m"))
    cluster.settle()
    cluster.report("a", model("m", "ModelDownloading", bytesTotal=GIB, bytesDone=1))
    cluster.settle()
    cluster.report("a", model("m", "ModelDownloading", bytesTotal=GIB, bytesDone=2))
    cluster.settle()
    cluster.answer("a")
    cluster.settle()
    cluster.restart()
    cluster.settle()
    reasons = [news.reason.value for news in cluster.announced]
    assert [r for r in reasons if r != "Available"] == ["Progressing"]
    assert reasons.count("Available") == 2  # the group, and the cache


class Recorder:
    """In the place of an `EventRecorder`."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def event(self, regarding: ObjectRef, *, type: str, **_: object) -> None:
        self.told.append((type, regarding.name))


def test_a_thousand_nodes_at_once_are_told_of_in_part_and_warnings_all_the_same() -> None:
    recorder: Any = Recorder()
    seconds = 0
    herald = Herald(recorder, lambda: seconds)
    for index in range(1000):
        herald.work(NodeView(f"n{index}"), work([]), work(["m"]))
    assert len(recorder.told) == 50
    failed = model("m", "ModelDownloadError", reason="AccessDenied")
    herald.work(NodeView("a"), work(["m"]), work(["m"], failed))
    assert recorder.told[50:] == [("Warning", "a")]
    while seconds < 60:
        seconds += 1
        for index in range(10):
            herald.work(NodeView(f"n{index}"), work([]), work(["m"]))
    assert len(recorder.told) == 51 + 60 * 5
