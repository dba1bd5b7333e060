"""Node selectors with the semantics of Kubernetes' scheduler."""

import re
from collections.abc import Mapping

from shared.api.core import NodeSelector, NodeSelectorTerm, SelectorRequirement

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
)


def matches(selector: NodeSelector, *, name: str, labels: Mapping[str, str]) -> bool:
    """Terms are ORed, requirements within a term ANDed; an empty term, and a selector without terms, match nothing.

    A term that the scheduler would refuse as malformed matches nothing; the other terms still count.
    """
    fields = {"metadata.name": name}
    return any(_term_matches(term, labels, fields) for term in selector.node_selector_terms)


def _term_matches(
    term: NodeSelectorTerm, labels: Mapping[str, str], fields: Mapping[str, str]
) -> bool:
    if not term.match_expressions and not term.match_fields:
        return False
    return (
        all(_holds(r, labels) for r in term.match_expressions)
        and all(_holds(r, fields) for r in term.match_fields)
        and all(_sound_expression(r) for r in term.match_expressions)
        and all(_sound_field(r, fields) for r in term.match_fields)
    )


def _holds(requirement: SelectorRequirement, have: Mapping[str, str]) -> bool:
    value = have.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            if value is None or len(requirement.values) != 1:
                return False
            left, right = _integer(value), _integer(requirement.values[0])
            if left is None or right is None:
                return False
            return left > right if operator == "Gt" else left < right
        case _:
            return False


def _sound_expression(requirement: SelectorRequirement) -> bool:
    if not _LABEL_KEY.fullmatch(requirement.key):
        return False
    if not all(_LABEL_VALUE.fullmatch(value) for value in requirement.values):
        return False
    if requirement.operator in ("Exists", "DoesNotExist"):
        return not requirement.values
    return bool(requirement.values)


def _sound_field(requirement: SelectorRequirement, fields: Mapping[str, str]) -> bool:
    return (
        requirement.key in fields
        and requirement.operator in ("In", "NotIn")
        and len(requirement.values) == 1
    )


def _integer(text: str) -> int | None:
    """As Go's ParseInt reads it: signed, 64 bits, without spaces and underscores."""
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None
