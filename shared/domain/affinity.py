"""Node selectors with the semantics of Kubernetes' scheduler."""

from collections.abc import Mapping

from shared.api.core import NodeSelector, NodeSelectorTerm, SelectorRequirement


def matches(selector: NodeSelector, *, name: str, labels: Mapping[str, str]) -> bool:
    """Terms are ORed, requirements within a term ANDed; an empty term, and a selector without terms, match nothing."""
    fields = {"metadata.name": name}
    return any(_term_matches(term, labels, fields) for term in selector.node_selector_terms)


def _term_matches(
    term: NodeSelectorTerm, labels: Mapping[str, str], fields: Mapping[str, str]
) -> bool:
    if not term.match_expressions and not term.match_fields:
        return False
    return all(_holds(r, labels) for r in term.match_expressions) and all(
        r.key in fields and _holds(r, fields) for r in term.match_fields
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


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
