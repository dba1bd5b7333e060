"""What holds for every quantity, URI, pattern, selector, condition and delay."""

from contextlib import suppress
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from shared.api.core import NodeSelector, NodeSelectorTerm, SelectorRequirement
from shared.api.meta import Condition
from shared.domain.affinity import matches
from shared.domain.backoff import delay
from shared.domain.conditions import set_condition
from shared.domain.patterns import Selection, Selections
from shared.domain.quantity import brief_quantity, format_quantity, human_bytes, parse_quantity
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri, redact

MAX = 2**63 - 1
BYTES = st.integers(0, MAX)
FACTORS = {
    "": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15),
    "E": Fraction(10**18), "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40),
    "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip
EXPONENTS = st.builds(
    lambda letter, power: (f"{letter}{power}", Fraction(10) ** power),
    st.sampled_from("eE"),
    st.integers(-40, 40),
)
SUFFIXES = st.one_of(st.sampled_from(sorted(FACTORS.items())), EXPONENTS)


@given(BYTES)
def test_the_canonical_form_reads_back_exactly(count: int) -> None:
    assert parse_quantity(format_quantity(count)) == count
    assert parse_quantity(count) == parse_quantity(str(count)) == count


@given(st.from_regex(r"[0-9]{1,12}(\.[0-9]{0,12})?|\.[0-9]{1,12}", fullmatch=True), SUFFIXES)
def test_a_quantity_is_its_number_times_its_suffix_rounded_up(
    number: str, suffix: tuple[str, Fraction]
) -> None:
    text, factor = suffix
    number = number.translate({ord(c): str(int(c)) for c in number if c.isdigit()})
    exact = Fraction("0" + number.rstrip(".")) * factor
    assert parse_quantity(number + text) == min(ceil(exact), MAX)


@given(st.text(max_size=70))
def test_every_text_is_a_quantity_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert 0 <= parse_quantity(text) <= MAX


@given(st.integers(1, 2**62))
def test_sizes_for_people_are_near_the_truth(count: int) -> None:
    assert abs(parse_quantity(brief_quantity(count)) - count) <= count * 0.051 + 1
    assert human_bytes(count).replace(" ", "").removesuffix("B") == brief_quantity(count)


@given(st.text(max_size=60) | st.from_regex(r"(s3|gs|hf|file|https?|x)://.{0,40}", fullmatch=True))
def test_every_text_is_a_uri_or_refused(text: str) -> None:
    with suppress(ValueError):
        uri = SourceUri.parse(text)
        assert uri.text == text
        assert text.lower().startswith(uri.scheme + "://")
        assert "\n" not in text
        assert ".." not in (uri.path.split("/") if uri.scheme == "file" else uri.repo.split("/"))


SECRET = "hunter2secret"


@given(
    st.sampled_from(["https", "http", "s3", "gs", "hf", "ftp"]),
    st.text("abc:.%-", max_size=8),
    st.sampled_from(["", "/", "/path", "/path/x.tar"]),
    st.sampled_from(["", "?", "#"]),
)
def test_secrets_before_the_host_and_in_the_query_are_never_shown(
    scheme: str, user: str, path: str, mark: str
) -> None:
    query = mark and f"{mark}sig={SECRET}"
    assert SECRET not in redact(f"{scheme}://{user}:{SECRET}@host{path}{query}")
    assert SECRET not in redact(f"{scheme}://{SECRET}@host{path}{query}")


PATTERNS = st.lists(st.text("ab/*?[].", min_size=1, max_size=6), max_size=3).map(tuple)
SELECTIONS = st.builds(Selection, st.none() | PATTERNS, PATTERNS)


@given(st.lists(SELECTIONS, max_size=4), st.text("ab/.", min_size=1, max_size=8))
def test_a_union_selects_what_one_of_its_members_selects(
    selections: list[Selection], path: str
) -> None:
    assert Selections.union(selections).selects(path) == any(s.selects(path) for s in selections)


@given(st.lists(SELECTIONS, max_size=4), st.randoms())
def test_a_union_has_one_form(selections: list[Selection], random: object) -> None:
    shuffled = sorted(selections, key=lambda _: random.random())  # type: ignore[attr-defined]  # a Random
    assert Selections.union(selections) == Selections.union([*shuffled, *selections])


NAMES = st.sampled_from(["a", "b", "metadata.name", "x y"])
REQUIREMENTS = st.builds(
    SelectorRequirement,
    key=NAMES,
    operator=st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Is"]),
    values=st.lists(st.sampled_from(["1", "2", "a", "", "x y"]), max_size=2).map(tuple),
)
TERMS = st.builds(
    NodeSelectorTerm,
    match_expressions=st.lists(REQUIREMENTS, max_size=3).map(tuple),
    match_fields=st.lists(REQUIREMENTS, max_size=1).map(tuple),
)
LABELS = st.dictionaries(NAMES, st.sampled_from(["1", "2", "a", ""]), max_size=3)


def _matches(term: NodeSelectorTerm, labels: dict[str, str]) -> bool:
    return matches(NodeSelector(node_selector_terms=(term,)), name="a", labels=labels)


@given(st.lists(TERMS, max_size=3).map(tuple), LABELS)
def test_a_selector_matches_when_one_of_its_terms_does(
    terms: tuple[NodeSelectorTerm, ...], labels: dict[str, str]
) -> None:
    selector = NodeSelector(node_selector_terms=terms)
    assert matches(selector, name="a", labels=labels) == any(_matches(t, labels) for t in terms)


@given(TERMS, REQUIREMENTS, LABELS)
def test_another_requirement_never_makes_a_term_match_more(
    term: NodeSelectorTerm, more: SelectorRequirement, labels: dict[str, str]
) -> None:
    narrower = term.model_copy(update={"match_expressions": (*term.match_expressions, more)})
    if term.match_expressions or term.match_fields:
        assert not _matches(narrower, labels) or _matches(term, labels)


TYPES = st.sampled_from(["Ready", "Stalled", "Reconciling"])
STATUSES = st.sampled_from(["True", "False", "Unknown"])


@given(st.lists(st.tuples(TYPES, STATUSES), max_size=12))
def test_a_transition_time_is_when_the_status_changed_last(changes: list[tuple[str, str]]) -> None:
    have: tuple[Condition, ...] = ()
    since: dict[str, tuple[str, datetime]] = {}
    for day, (type, status) in enumerate(changes, start=1):
        now = datetime(2026, 1, day, tzinfo=UTC)
        have = set_condition(
            have,
            type=type,
            status=status,  # type: ignore[arg-type]  # one of the three
            reason=Reason.PENDING,
            message=str(day),
            now=now,
            generation=day,
        )
        if since.get(type, ("", now))[0] != status:
            since[type] = (status, now)
    assert {c.type: (c.status, c.last_transition_time) for c in have} == since
    assert [c.type for c in have] == sorted(since)


@given(
    st.integers(-5, 10**9),
    st.floats(0.01, 100),
    st.floats(0.01, 10_000),
    st.floats(0, 1, exclude_max=True),
)
def test_a_delay_is_positive_and_within_a_fifth_of_the_cap(
    attempt: int, base: float, cap: float, jitter: float
) -> None:
    seconds = delay(attempt, base=base, cap=cap, jitter=jitter)
    assert 0 < seconds <= cap * 1.2
    assert delay(attempt + 1, base=base, cap=cap, jitter=jitter) >= seconds
