"""Which files patterns select, alone and together."""

import pytest

from shared.domain.patterns import EVERYTHING, Selection, Selections


@pytest.mark.parametrize(
    ("allow", "ignore", "path", "selected"),
    [
        (None, (), "model.bin", True),
        (("*.safetensors",), (), "model.safetensors", True),
        (("*.safetensors",), (), "a/b/model.safetensors", True),
        (("*.safetensors",), (), "model.bin", False),
        (("*.SafeTensors",), (), "model.safetensors", False),
        (("data/*.json",), (), "data/sub/x.json", True),
        (("data/",), (), "data/sub/x.json", True),
        (("data/",), (), "data2/x.json", False),
        (("data/",), (), "data", False),
        (("model-0000[12]*",), (), "model-00002-of-9", True),
        (("?.bin",), (), "ab.bin", False),
        (None, ("*.md", "original/"), "README.md", False),
        (None, ("*.md", "original/"), "original/w.bin", False),
        (("*.bin",), ("x*",), "x.bin", False),
        (("*.bin",), ("x*",), "y.bin", True),
        ((), (), "anything", False),
    ],
)
def test_patterns_match_the_path_as_the_hub_client_does(
    allow: tuple[str, ...] | None, ignore: tuple[str, ...], path: str, selected: bool
) -> None:
    assert Selection(allow, ignore).selects(path) is selected


def test_several_caches_of_one_source_want_what_any_of_them_wants() -> None:
    both = Selections.union([Selection(("*.json",)), Selection(("*.bin",), ("x*",))])
    assert both.selects("config.json")
    assert both.selects("y.bin")
    assert not both.selects("x.bin")


def test_one_that_wants_everything_absorbs_the_others() -> None:
    assert Selections.union([Selection(("*.json",)), EVERYTHING]) == Selections((EVERYTHING,))


def test_a_union_does_not_depend_on_order_or_repetition() -> None:
    some = [Selection(None, ("a",)), Selection((), ("a",)), Selection(("b",)), Selection(("b",))]
    assert Selections.union(some) == Selections.union(reversed(some))


def test_nobody_wants_nothing() -> None:
    assert not Selections.union([]).selects("config.json")
