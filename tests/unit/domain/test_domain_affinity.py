"""Node selectors: the scheduler's semantics, case by case."""

from typing import Any

import pytest

from shared.api.core import NodeSelector
from shared.domain.affinity import matches

NODE = "node-1"
LABELS = {"pool": "gpu", "disk": "1024", "zone": "a", "empty": ""}


def wanted(*terms: dict[str, Any]) -> NodeSelector:
    return NodeSelector.model_validate({"nodeSelectorTerms": list(terms)})


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def holds(key: str, operator: str, *values: str) -> bool:
    selector = wanted({"matchExpressions": [expression(key, operator, *values)]})
    return matches(selector, name=NODE, labels=LABELS)


@pytest.mark.parametrize(
    ("key", "operator", "values", "answer"),
    [
        ("pool", "In", ["cpu", "gpu"], True),
        ("pool", "In", ["cpu"], False),
        ("none", "In", ["gpu"], False),
        ("empty", "In", [""], True),
        ("pool", "NotIn", ["cpu"], True),
        ("pool", "NotIn", ["gpu"], False),
        ("none", "NotIn", ["gpu"], True),
        ("pool", "Exists", [], True),
        ("none", "Exists", [], False),
        ("pool", "DoesNotExist", [], False),
        ("none", "DoesNotExist", [], True),
        ("disk", "Gt", ["1000"], True),
        ("disk", "Gt", ["1024"], False),
        ("disk", "Lt", ["1025"], True),
        ("disk", "Lt", ["-1"], False),
        ("none", "Gt", ["0"], False),
        ("pool", "Gt", ["0"], False),
        ("pool", "Lt", ["0"], False),
    ],
)
def test_operators(key: str, operator: str, values: list[str], answer: bool) -> None:
    assert holds(key, operator, *values) is answer


@pytest.mark.parametrize(
    ("key", "operator", "values"),
    [
        ("pool", "In", []),
        ("none", "NotIn", []),
        ("pool", "Exists", ["gpu"]),
        ("none", "DoesNotExist", ["gpu"]),
        ("disk", "Gt", []),
        ("disk", "Gt", ["1", "2"]),
        ("disk", "Gt", ["1_0"]),
        ("disk", "Gt", [" 1"]),
        ("disk", "Lt", ["99999999999999999999"]),
        ("pool", "Equals", ["gpu"]),
        ("pool", "in", ["gpu"]),
        ("pool", "In", ["gpu", "not a label value"]),
        ("none", "NotIn", ["not a label value"]),
        ("not a key", "DoesNotExist", []),
        ("UPPER/key", "DoesNotExist", []),
    ],
)
def test_what_the_scheduler_refuses_matches_nothing(
    key: str, operator: str, values: list[str]
) -> None:
    assert not holds(key, operator, *values)


def test_a_malformed_term_does_not_spoil_the_others() -> None:
    malformed = {"matchExpressions": [expression("pool", "In")]}
    sound = {"matchExpressions": [expression("pool", "In", "gpu")]}
    assert matches(wanted(malformed, sound), name=NODE, labels=LABELS)


def test_terms_are_alternatives_and_requirements_must_all_hold() -> None:
    gpu, other_zone = expression("pool", "In", "gpu"), expression("zone", "In", "b")
    assert matches(
        wanted({"matchExpressions": [gpu]}, {"matchExpressions": [other_zone]}),
        name=NODE,
        labels=LABELS,
    )
    assert not matches(wanted({"matchExpressions": [gpu, other_zone]}), name=NODE, labels=LABELS)


def test_empty_terms_and_no_terms_match_nothing() -> None:
    assert not matches(wanted(), name=NODE, labels=LABELS)
    assert not matches(wanted({}), name=NODE, labels=LABELS)
    assert not matches(
        wanted({"matchExpressions": [], "matchFields": []}), name=NODE, labels=LABELS
    )
    assert matches(
        wanted({}, {"matchExpressions": [expression("pool", "Exists")]}), name=NODE, labels=LABELS
    )


@pytest.mark.parametrize(
    ("key", "operator", "values", "answer"),
    [
        ("metadata.name", "In", [NODE], True),
        ("metadata.name", "In", ["node-2"], False),
        ("metadata.name", "NotIn", ["node-2"], True),
        ("metadata.name", "NotIn", [NODE], False),
        ("metadata.name", "In", [NODE, "node-2"], False),
        ("metadata.name", "Exists", [], False),
        ("metadata.namespace", "NotIn", ["x"], False),
        ("pool", "In", ["gpu"], False),
    ],
)
def test_fields_know_the_name_alone(
    key: str, operator: str, values: list[str], answer: bool
) -> None:
    selector = wanted({"matchFields": [expression(key, operator, *values)]})
    assert matches(selector, name=NODE, labels=LABELS) is answer


def test_expressions_and_fields_of_a_term_must_both_hold() -> None:
    term = {
        "matchExpressions": [expression("pool", "In", "gpu")],
        "matchFields": [expression("metadata.name", "In", "node-2")],
    }
    assert not matches(wanted(term), name=NODE, labels=LABELS)
    assert matches(wanted(term), name="node-2", labels=LABELS)


def test_a_label_called_like_the_field_is_not_the_field() -> None:
    selector = wanted({"matchExpressions": [expression("metadata.name", "In", NODE)]})
    assert not matches(selector, name=NODE, labels=LABELS)
