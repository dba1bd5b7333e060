"""`plan`: what fits where, what is shared, what would have to go."""

import json
import time as clock
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.cli.pages.plan import Plan, must_go, plan, with_size
from controller.cli.pages.plan_page import as_data, page
from controller.cli.pages.text import plain
from shared.domain import parse
from shared.domain.forecast import Verdict, real_sizes
from tests.unit.cli.fleet import DISK, GIB, Cluster, cache, done, fleet, group, loading, node
from tests.unit.cli.picture import compare


def planned(cluster: Cluster, size: str, *groups: str, uri: str = "s3://models/new") -> Plan:
    wire = cache("new", *groups, uri=uri, size=size)
    return plan(parse.cache(wire), fleet(cluster, "busy"))


@pytest.fixture
def cluster() -> Cluster:
    """Nodes a, b with 100 GiB for models each; old (40) and busy (50), which services use, are on both."""
    made = Cluster()
    made.put("group", group(limit="100Gi"))
    for name in "ab":
        made.put("node", node(name))
    made.put("cache", cache("old", uri="s3://models/old", size="40Gi"))
    made.put("cache", cache("busy", uri="s3://models/busy", size="50Gi", created=1))
    made.settle()
    for name in "ab":
        made.report(
            name,
            done("old", "s3://models/old", 40 * GIB),
            done("busy", "s3://models/busy", 50 * GIB),
            storage=DISK,
        )
    made.settle()
    return made


def test_what_fits_fits_everywhere(cluster: Cluster) -> None:
    found = planned(cluster, "10Gi")
    assert found.fits
    assert [one.verdict for one in found.outlooks] == [Verdict.FITS, Verdict.FITS]
    compare("plan_fits", page(found))


def test_what_does_not_fit_names_what_would_have_to_go(cluster: Cluster) -> None:
    cluster.put("node", node("c"))
    cluster.settle()
    found = planned(cluster, "30Gi")
    assert not found.fits
    assert [one.short for one in found.outlooks] == [20 * GIB] * 3
    assert [one.go for one in found.outlooks] == [(("old", 40 * GIB),)] * 3
    compare("plan_short", page(found, in_use=frozenset({"busy"})))


def test_unused_caches_go_before_used_ones_and_no_more_than_necessary(cluster: Cluster) -> None:
    view = parse.cache(cache("new", size="60Gi"))
    assert must_go(view, "a", fleet(cluster, "busy")) == (("busy", 50 * GIB),)
    assert must_go(view, "a", fleet(cluster, "old")) == (("busy", 50 * GIB),)
    view = parse.cache(cache("new", size="100Gi"))
    gone = must_go(view, "a", fleet(cluster, "busy"))
    assert gone == (("old", 40 * GIB), ("busy", 50 * GIB))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    used=st.sets(st.integers(0, 5)),
    size=st.integers(1, 110),
)
def test_what_would_have_to_go_is_enough_and_nothing_of_it_is_too_much(
    sizes: list[int], used: set[int], size: int
) -> None:
    made = Cluster()
    made.put("group", group(limit="100Gi"))
    made.put("node", node("a"))
    for at, gib in enumerate(sizes):
        made.put("cache", cache(f"c{at}", size=f"{gib}Gi", created=at))
    made.settle()
    all_ = fleet(made, *(f"c{at}" for at in used))
    view = parse.cache(cache("new", size=f"{size}Gi"))

    def fits(gone: set[str]) -> bool:
        """Once these are deleted, and gone from the disk."""
        left = {key: one for key, one in all_.caches.items() if key not in gone}
        works = {
            name: replace(work, entries=tuple(e for e in work.entries if e.key not in gone))
            for name, work in all_.works.items()
        }
        return plan(view, replace(all_, caches=left, works=works)).fits

    gone = must_go(view, "a", all_)
    if gone is None:
        assert not fits(set(all_.caches))
        return
    keys = {key for key, _ in gone}
    assert fits(keys)
    assert not any(fits(keys - {key}) for key in keys)


def test_what_is_larger_than_the_limit_never_fits(cluster: Cluster) -> None:
    found = planned(cluster, "101Gi")
    assert [one.go for one in found.outlooks] == [None, None]
    assert "too large even if everything else went" in plain(page(found))


def test_a_model_that_another_cache_holds_is_shared(cluster: Cluster) -> None:
    found = planned(cluster, "40Gi", uri="s3://models/old")
    assert found.fits
    assert [one.shared for one in found.outlooks] == [("old",), ("old",)]
    compare("plan_shared", page(found))


def test_a_cache_that_is_there_already_is_told_so(cluster: Cluster) -> None:
    view = parse.cache(cluster.stored["cache", "old"])
    found = plan(view, fleet(cluster))
    assert [one.verdict for one in found.outlooks] == [Verdict.PRESENT, Verdict.PRESENT]
    assert plain(page(found)).endswith(
        "old (40.0 GiB) fits on 2 nodes (2 hold it already), nothing to fetch.\n"
    )


def test_another_selection_of_the_same_files_is_not_there(cluster: Cluster) -> None:
    """Of `old` only the safetensors are on the nodes."""
    selected: dict[str, Any] = {
        "uri": "s3://models/old",
        "size": "40Gi",
        "allowPatterns": ["*.safetensors"],
    }
    cluster.put("cache", cache("old", **selected))
    cluster.settle()
    for name in "ab":
        cluster.report(name, done("old", "s3://models/old", 40 * GIB))
    cluster.settle()

    def verdicts(wire: dict[str, Any]) -> set[tuple[Verdict, int]]:
        return {(o.verdict, o.missing) for o in plan(parse.cache(wire), fleet(cluster)).outlooks}

    everything = {**selected, "allowPatterns": []}
    assert verdicts(cache("new", **selected)) == {(Verdict.PRESENT, 0)}
    assert verdicts(cache("new", **everything)) == {(Verdict.FITS, 40 * GIB)}
    assert verdicts(cache("old", **everything)) == {(Verdict.FITS, 40 * GIB)}
    assert verdicts(cache("old", **selected)) == {(Verdict.PRESENT, 0)}
    found = plan(parse.cache(cache("new", **everything)), fleet(cluster))
    compare("plan_other_files", page(found))
    assert {one["bytesToFetch"] for one in as_data(found)["nodes"]} == {40 * GIB}


def test_a_cache_whose_uri_would_change_is_not_there(cluster: Cluster) -> None:
    found = plan(parse.cache(cache("old", uri="s3://models/v2", size="50Gi")), fleet(cluster))
    assert {(one.verdict, one.missing) for one in found.outlooks} == {(Verdict.FITS, 50 * GIB)}


def test_sizes_that_agents_found_for_another_uri_do_not_count(cluster: Cluster) -> None:
    """The nodes still report what `old` was before."""
    changed = parse.cache(cache("old", uri="s3://models/v2", size="1Gi"))
    works = fleet(cluster).works.values()
    assert real_sizes(works, [changed]) == {}
    assert real_sizes(works, [parse.cache(cluster.stored["cache", "old"])]) == {"old": 40 * GIB}


def test_what_is_still_on_its_way_with_another_cache_is_fetched_once(cluster: Cluster) -> None:
    for name in "ab":
        cluster.report(name, loading("old", 0.5, uri="s3://models/old"))
    found = planned(cluster, "40Gi", uri="s3://models/old")
    assert {(one.verdict, one.missing) for one in found.outlooks} == {(Verdict.FITS, 0)}
    assert "shares 40.0 GiB with old" in plain(page(found))


def test_groups_that_do_not_exist_and_groups_without_nodes_fit_nothing(cluster: Cluster) -> None:
    cluster.put("group", group("empty"))
    assert not planned(cluster, "1Gi", "nowhere").fits
    assert "node group nowhere does not exist" in plain(page(planned(cluster, "1Gi", "nowhere")))
    assert not planned(cluster, "1Gi", "empty").fits
    assert "none belongs to node group empty" in plain(page(planned(cluster, "1Gi", "empty")))


def test_the_larger_of_the_declared_and_the_measured_size_counts() -> None:
    view = parse.cache(cache("m", size="2Gi"))
    assert with_size(view, 3 * GIB).size == 3 * GIB
    assert with_size(view, 1 * GIB).size == 2 * GIB
    assert with_size(view, None).size == 2 * GIB


def test_a_plan_as_data(cluster: Cluster) -> None:
    found = as_data(planned(cluster, "30Gi"))
    assert json.loads(json.dumps(found)) == found
    assert found["fits"] is False
    assert found["nodes"][0]["wouldHaveToGo"] == ["old"]
    assert found["nodes"][0]["bytesShort"] == 20 * GIB


def test_a_thousand_nodes_are_planned_at_once_and_shown_in_a_few_lines() -> None:
    made = Cluster()
    made.put("group", group(limit="100Gi"))
    for number in range(20):
        made.put("cache", cache(f"c{number:02}", size="1Gi", created=number))
    for number in range(1000):
        made.put("node", node(f"gpu-{number:04}", ready=number != 7))
    made.settle()
    started = clock.perf_counter()
    found = planned(made, "60Gi")
    assert clock.perf_counter() - started < 5
    lines = page(found)
    assert len(lines) < 8
    compare("plan_thousand", lines)
