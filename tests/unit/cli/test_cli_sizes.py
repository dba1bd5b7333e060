"""Sizes and names for manifests that people would have written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cli.pages.sizes import default_name, manifest, round_up
from shared.api.cache import LocalModelCache, LocalModelNamespaceCache
from shared.domain.quantity import format_quantity, parse_quantity
from shared.domain.uri import SourceUri


@given(st.integers(0, 2**50))
def test_a_declared_size_is_never_smaller_and_hardly_larger(count: int) -> None:
    declared = round_up(count)
    assert declared >= max(count, 1)
    assert declared - count <= max(1 << 20, count * 0.11)
    assert parse_quantity(format_quantity(declared)) == declared


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "1Mi"),
        (5 << 20, "5Mi"),
        ((5 << 20) + 1, "6Mi"),
        (15 << 30, "15Gi"),
        ((15 << 30) + 1, "16Gi"),
    ],
)
def test_sizes_read_well(count: int, text: str) -> None:
    assert format_quantity(round_up(count)) == text


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("hf://meta-llama/Llama-3.1-8B:main", "llama-3-1-8b"),
        ("s3://bucket/models/phi_3/", "phi-3"),
        ("https://host/a/model.tar.gz", "model"),
        ("gs://bucket", "bucket"),
        ("s3://bucket/" + "x" * 100, "x" * 63),
    ],
)
def test_a_name_is_made_of_the_uri(uri: str, name: str) -> None:
    assert default_name(SourceUri.parse(uri)) == name


def test_no_name_can_be_made_of_nothing() -> None:
    with pytest.raises(ValueError, match="no name"):
        default_name(SourceUri.parse("s3://bucket/___"))


def test_manifests_are_what_the_models_read() -> None:
    wire = manifest("hf://a/b", name="b", size=5 << 30, groups=("gpu",), allow=("*.json",))
    cache = LocalModelCache.model_validate(wire)
    assert cache.spec.model_size == "5Gi"
    assert cache.spec.allow_patterns == ("*.json",)
    wire = manifest("hf://a/b", name="b", size=1, groups=("gpu",), namespace="t", storage_key="k")
    own = LocalModelNamespaceCache.model_validate(wire)
    assert own.metadata.namespace == "t"
    assert own.spec.storage is not None
    assert own.spec.storage.key == "k"
