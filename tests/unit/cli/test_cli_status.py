"""`status`: trouble on top, thousands of nodes in a few lines, the same as data."""

import json
import time as clock

import pytest

from controller.cli.pages.copies import copies, has_lost
from controller.cli.pages.node import is_silent
from controller.cli.pages.status import Shown, detail, in_order, names, overview, summary
from controller.cli.pages.status_data import as_data
from controller.cli.pages.text import Style, plain
from controller.cli.pages.waiting import brief, page
from shared.api.cache import NodeState
from tests.unit.cli.fleet import (
    LATER,
    LLAMA,
    Cluster,
    cache,
    done,
    failed,
    group,
    loading,
    node,
    shown,
    works,
)
from tests.unit.cli.picture import compare


def cluster(*nodes: str) -> Cluster:
    made = Cluster()
    made.put("group", group(limit="1Ti"))
    for name in nodes:
        made.put("node", node(name))
    made.put("cache", cache("llama", size="130Gi", uri=LLAMA))
    made.settle()
    return made


@pytest.fixture
def mixed() -> Cluster:
    """Of four nodes one has it, one fetches it, one is refused by the source, one has been silent."""
    made = cluster("a", "b", "c", "d")
    made.report("a", done("llama"))
    made.report("b", loading("llama", 0.25))
    made.report("c", failed("llama", "AccessDenied", "403 from bucket models"))
    made.report("d", loading("llama", 0.5))
    made.silence("d")
    made.settle()
    return made


def test_one_cache_shows_its_nodes_trouble_first(mixed: Cluster) -> None:
    compare("status_one", detail(shown(mixed, "llama"), now=LATER))


def test_all_caches_stand_in_one_table_trouble_first(mixed: Cluster) -> None:
    for name, uri in (
        ("stuck", "hf://acme/secret"),
        ("fine", "gs://b/fine"),
        ("new", "gs://b/new"),
    ):
        mixed.put("cache", cache(name, uri=uri, size="8Gi"))
    mixed.put("cache", cache("lost", "nowhere", namespace="team", uri="gs://b/lost"))
    mixed.settle()
    stuck = failed(
        "stuck", "CredentialsMissing", "Secret 'x' does not exist", uri="hf://acme/secret"
    )
    for name in "abcd":
        mixed.report(name, done("llama"), done("fine", "gs://b/fine", 1 << 30), stuck)
    mixed.silence()
    mixed.settle()
    found = [shown(mixed, key) for key in ("llama", "stuck", "fine", "new", "team/lost")]
    compare("status_all", [*overview(found, now=LATER), summary(found)])
    compare("status_wide", overview(found, now=LATER, wide=True))
    compare("status_names", names(found))
    narrow = plain(overview(found, now=LATER, width=70))
    assert "VERIFIED" not in narrow, "what is wrong is more important"
    assert "REASON" in narrow
    assert [one.cache.key for one in in_order(found)][:2] == ["stuck", "team/lost"]


def test_a_thousand_nodes_are_a_few_lines() -> None:
    made = cluster(*(f"gpu-{number:04}" for number in range(1000)))
    for number in range(1000):
        name = f"gpu-{number:04}"
        if number < 7:
            made.report(name, failed("llama", "AccessDenied", f"403 from node {number}"))
        elif number < 10:
            made.report(name, failed("llama", "SourceUnreachable", "timed out", retry=number))
        elif number < 300:
            made.report(name, loading("llama", number / 300))
        else:
            made.report(name, done("llama"))
    made.silence("gpu-0999")
    made.settle()
    started = clock.perf_counter()
    lines = detail(shown(made, "llama"), now=LATER)
    assert clock.perf_counter() - started < 2
    assert len(lines) < 15
    compare("status_thousand", lines, width=200)
    compare("wait_thousand", page([shown(made, "llama")], now=LATER), width=200)
    assert len(detail(shown(made, "llama"), now=LATER, wide=True)) > 1000


def test_data_has_every_figure_and_leaves_out_what_is_not_known(mixed: Cluster) -> None:
    found = as_data(shown(mixed, "llama"))
    assert json.loads(json.dumps(found)) == found
    assert found["state"] == "Reconciling"
    by_node = {one["node"]: one for one in found["nodes"]}
    assert by_node["c"]["nextRetryTime"] == "2026-01-01T02:04:10Z"
    assert by_node["c"]["reason"] == "AccessDenied"
    assert by_node["b"]["secondsLeft"] == 98
    assert by_node["d"] == {
        "node": "d",
        "state": "Unknown",
        "reason": "AgentSilent",
        "bytesDone": 0,
        "bytesTotal": 130 << 30,
    }


def test_a_complete_copy_on_a_node_that_is_not_ready_is_trouble(mixed: Cluster) -> None:
    mixed.put("node", node("a", ready=False))
    mixed.settle()
    found = shown(mixed, "llama")
    assert has_lost(found.cache)
    copy = next(copy for copy in found.copies if copy.node == "a")
    assert (copy.state, copy.reason, copy.style) == (
        NodeState.DOWNLOADED,
        "NodeNotReady",
        Style.WARN,
    )
    assert found.copies.index(copy) < found.copies.index(
        next(copy for copy in found.copies if copy.state is NodeState.DOWNLOADING)
    )
    assert "Downloaded, NodeNotReady on a: the node is not Ready" in plain(page([found], now=LATER))
    mixed.put("node", node("a"))
    mixed.settle()
    assert not has_lost(shown(mixed, "llama").cache)


def test_without_the_right_to_list_nodes_the_states_are_still_there(mixed: Cluster) -> None:
    facts = shown(mixed, "llama").cache
    found = {copy.node: copy.reason for copy in copies(facts, None)}
    assert found == {"a": "Published", "b": "Downloading", "c": "CopyFailed", "d": "AgentSilent"}


def test_an_agent_that_never_answered_is_missing_and_not_silent() -> None:
    made = cluster("a", "b")
    made.report("a", done("llama"))
    made.silence("a", "b")
    made.settle()
    found = shown(made, "llama")
    assert {copy.node: copy.reason for copy in found.copies} == {
        "a": "AgentSilent",
        "b": "AgentMissing",
    }
    assert not is_silent(works(made)["b"], [found.cache])


def test_a_cache_that_the_controller_has_not_seen_is_new() -> None:
    made = Cluster()
    made.put("cache", cache("m"))
    assert shown(made, "m").state == "New"


def test_waiting_shows_bars_and_why_nothing_moves(mixed: Cluster) -> None:
    compare("wait", page([shown(mixed, "llama")], now=LATER))
    assert plain([brief([shown(mixed, "llama")])]) == "llama 31%, 1/4 nodes (AccessDenied)\n"


def test_names_and_messages_with_escapes_stay_text() -> None:
    made = cluster("a", "b")
    made.report(
        "a", failed("llama", "AccessDenied", "\x1b[2J\x1b]0;pwned\x07<script>\nsecond line")
    )
    made.report("b", failed("llama", "\x1b[31mUnknown", "\u202eevil"))
    made.settle()
    text = plain(
        [*detail(shown(made, "llama"), now=LATER), *overview([shown(made, "llama")], now=LATER)]
    )
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J\\x1b]0;pwned\\x07<script> second line" in text


def test_statuses_of_other_versions_are_read_as_far_as_they_go() -> None:
    made = cluster("a")
    wire = made.stored["cache", "llama"]
    wire["status"] = {
        "nodeStatus": {"a": "OfTheFuture"},
        "copies": {"total": "x"},
        "conditions": [{"type": "Ready"}],
    }
    found = shown(made, "llama")
    assert isinstance(found, Shown)
    assert [copy.reason for copy in found.copies] == ["AgentMissing"]
