from agent.planning.desired import Access, group, read_work_list
from agent.planning.selection import selections_from_json, selections_to_json
from shared.domain.patterns import Selections
from tests.unit.agent.builders import ALL, KEY, line, wanted


def test_entries_with_one_uri_share_a_tree_that_holds_all_they_select() -> None:
    found = wanted(line("json", allow=["*.json"]), line("bin", allow=["*.bin"]))
    assert found.storage_key == KEY
    assert [entry.key for entry in found.entries] == ["bin", "json"]
    assert found.selections.selects("a.json")
    assert found.selections.selects("a.bin")
    assert not found.selections.selects("a.txt")


def test_one_entry_without_patterns_wants_everything() -> None:
    assert wanted(line("some", allow=["*.json"]), line("all")).selections == ALL


def test_an_empty_list_of_patterns_and_their_order_mean_nothing() -> None:
    assert wanted(line(allow=[], ignore=[])).selections == ALL
    one, other = wanted(line(allow=["a", "b"])), wanted(line(allow=["b", "a", "b"]))
    assert one.fingerprint == other.fingerprint


def test_different_uris_are_different_trees_in_the_order_of_the_list() -> None:
    uris = ["s3://b/2", "s3://b/1", "s3://b/3"]
    entries = read_work_list([line(f"m{index}", uri) for index, uri in enumerate(uris)])
    assert [want.uri for want in group(entries).values()] == uris


def test_of_two_entries_with_the_same_key_the_first_counts() -> None:
    (entry,) = read_work_list([line("m", "s3://b/1"), line("m", "s3://b/2")])
    assert entry.uri == "s3://b/1"


def test_the_accesses_are_those_that_entries_name_each_once() -> None:
    found = wanted(
        line("a", account="one"), line("b", account="one"), line("c", storage="two"), line("d")
    )
    assert found.accesses == (Access("one"), Access(storage="two"), Access())


def test_bytes_for_a_namespace_are_trusted_there_alone() -> None:
    assert wanted(line("a", namespace="team")).trust == "team"
    assert wanted(line("a", namespace="team"), line("b")).trust == "cluster"
    assert not wanted(line("a", namespace="team"), line("b")).cluster_only


def test_an_unreadable_size_is_no_size() -> None:
    (entry,) = read_work_list([line(size="ten")])
    assert entry.declared is None


def test_selections_survive_being_written_down() -> None:
    chosen = wanted(line("a", allow=["*.json", "x/"]), line("b", ignore=["*.bin"])).selections
    assert selections_from_json(selections_to_json(chosen)) == chosen
    assert selections_from_json({"format": "unknown"}) == Selections(())
