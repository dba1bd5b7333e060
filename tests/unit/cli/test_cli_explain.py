"""`explain`: the chain of facts in sentences, and what to do."""

import pytest

from controller.cli.pages.copies import copies
from controller.cli.pages.explain import Scene, of_cache, of_node
from controller.cli.pages.text import plain
from shared.domain.forecast import forecast
from shared.domain.placement import Waiting
from shared.domain.reason_table import TABLE
from shared.domain.reasons import Reason
from tests.unit.cli.fleet import (
    DISK,
    GIB,
    LATER,
    LLAMA,
    Cluster,
    cache,
    done,
    facts,
    failed,
    fleet,
    group,
    loading,
    node,
    not_ready,
    works,
)
from tests.unit.cli.picture import compare


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    made.put("group", group(limit="150Gi"))
    for name in "abcd":
        made.put("node", node(name))
    made.put("cache", cache("llama", size="130Gi", uri=LLAMA))
    made.settle()
    made.report("a", done("llama"), agent={"version": "1"})
    made.report("b", loading("llama", 0.25), agent={"version": "1"})
    made.report(
        "c", failed("llama", "AccessDenied", "403 from bucket models"), agent={"version": "1"}
    )
    made.put("cache", cache("late", size="100Gi", uri="s3://models/late", created=5))
    made.settle()
    return made


def scene(cluster: Cluster, key: str, *, rights: bool = True) -> Scene:
    found = facts(cluster, key)
    if not rights:
        return Scene(found, copies(found, None), None, None, None)
    all_ = fleet(cluster)
    outlook = forecast(
        found.view,
        nodes=all_.nodes.values(),
        groups=all_.groups,
        caches=all_.caches.values(),
        works=all_.works,
    )
    waiting: dict[str, Waiting] = {one.node: one.waiting for one in outlook if one.waiting}
    nodes = works(cluster, key)
    told = copies(found, nodes, waiting, not_ready(cluster))
    return Scene(found, told, dict(all_.groups), dict(all_.nodes), nodes)


def test_a_cache_that_failed_on_one_node(cluster: Cluster) -> None:
    compare("explain_cache", of_cache(scene(cluster, "llama"), now=LATER))


def test_a_copy_that_failed(cluster: Cluster) -> None:
    compare("explain_node", of_node(scene(cluster, "llama"), "c", now=LATER))


def test_a_complete_copy_on_a_dead_node_is_no_good_news(cluster: Cluster) -> None:
    cluster.put("node", node("a", ready=False))
    cluster.settle()
    assert cluster.status("llama")["nodeStatus"]["a"] == "NodeDownloaded"
    found = scene(cluster, "llama")
    text = plain(of_node(found, "a", now=LATER))
    assert "The state is Downloaded (NodeNotReady): the node is not Ready." in text
    assert "kubectl describe node a says why" in text
    text = plain(of_cache(found, now=LATER))
    assert "On 1 node (a) it is Downloaded (NodeNotReady): the node is not Ready." in text
    assert "hold" not in text.partition("NodeNotReady")[2].partition("What")[0]


def test_a_cache_that_does_not_fit(cluster: Cluster) -> None:
    for name in "abcd":
        cluster.report(name, done("llama"), storage=DISK)
    cluster.settle()
    compare("explain_no_space", of_cache(scene(cluster, "late"), now=LATER))
    compare("explain_no_space_node", of_node(scene(cluster, "late"), "a", now=LATER))


def test_a_node_that_does_not_belong_to_the_cache(cluster: Cluster) -> None:
    cluster.put("node", node("cpu-1", pool="cpu"))
    cluster.settle()
    text = plain(of_node(scene(cluster, "llama"), "cpu-1", now=LATER))
    assert text.startswith("llama on cpu-1 is not to be there.\n")
    assert "No node group that llama names (gpu) takes it" in text
    text = plain(of_node(scene(cluster, "llama"), "ghost", now=LATER))
    assert "There is no node ghost; there are a, b, c, cpu-1, d." in text


def test_a_node_without_an_agent_and_a_silent_one(cluster: Cluster) -> None:
    cluster.report("d", loading("llama", 0.5), agent={"version": "1"})
    cluster.silence("d")
    cluster.settle()
    text = plain(of_node(scene(cluster, "llama"), "d", now=LATER))
    assert "AgentSilent" in text
    assert "kubectl -n localmodel-agents get pods -o wide --field-selector spec.nodeName=d" in text


def test_with_few_rights_what_can_be_said_is_said(cluster: Cluster) -> None:
    text = plain(of_cache(scene(cluster, "llama", rights=False), now=LATER))
    assert "llama is not Ready yet" in text
    text = plain(of_node(scene(cluster, "llama", rights=False), "c", now=LATER))
    assert "you may not list nodes and groups" in text
    assert "you may not list localmodelnodes" in text


def test_a_group_that_does_not_exist_is_named_with_those_that_do(cluster: Cluster) -> None:
    cluster.put("cache", cache("lost", "gpus"))
    cluster.settle()
    text = plain(of_cache(scene(cluster, "lost"), now=LATER))
    assert "Node group gpus does not exist; there are gpu." in text
    assert "NodeGroupNotFound (waits until somebody acts)" in text


def test_ready_is_told_in_a_sentence(cluster: Cluster) -> None:
    for name in "abcd":
        cluster.report(name, done("llama", total=131 * GIB))
    cluster.settle()
    text = plain(of_cache(scene(cluster, "llama"), now=LATER))
    assert "llama is Ready" in text
    assert "4 nodes (a, b, c and 1 more) hold it, verified by sha256." in text
    assert "What you can do" not in text


@pytest.mark.parametrize("reason", list(Reason))
def test_whatever_an_agent_reports_is_explained_from_the_table(
    cluster: Cluster, reason: Reason
) -> None:
    cluster.report("c", failed("llama", reason.value, "as it said"))
    cluster.settle()
    text = plain(of_node(scene(cluster, "llama"), "c", now=LATER, width=4000))
    assert f"Failed ({reason.value}): as it said." in text
    if TABLE[reason].action:
        assert f"What it means: {TABLE[reason].meaning.replace('`', '')}" in text
