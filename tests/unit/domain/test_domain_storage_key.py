"""Names that other parts of KServe compute too."""

import pytest

from shared.domain.storage_key import is_storage_key, status_key, storage_key


def test_the_folder_is_the_one_that_kserve_mounts() -> None:
    # sha256("hf://meta-llama/meta-llama-3-8b-instruct"), as `sha256sum` prints it
    assert storage_key("hf://meta-llama/meta-llama-3-8b-instruct") == "c277d78a31bc6624"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("0123456789abcdef", True),
        ("0123456789ABCDEF", False),
        ("0123456789abcde", False),
        ("0123456789abcdef0", False),
        ("0123456789abcdef\n", False),
        ("llama", False),
    ],
)
def test_nothing_else_is_taken_for_a_copy(name: str, answer: bool) -> None:
    assert is_storage_key(name) is answer


def test_namespace_caches_have_their_namespace_in_the_key() -> None:
    assert status_key("llama", None) == "llama"
    assert status_key("llama", "") == "llama"
    assert status_key("llama", "team-a") == "team-a/llama"
