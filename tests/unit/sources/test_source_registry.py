"""One door for all schemes, which opens only the library that is needed."""

import subprocess
import sys

import pytest

from agent.errors import Stalled
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from agent.sources.registry import SCHEMES, open_source
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri


def refusal(uri: str, credentials: Credentials) -> Stalled:
    with pytest.raises(Stalled) as caught:
        open_source(SourceUri.parse(uri), credentials, SourcePolicy())
    return caught.value


def test_nothing_large_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, agent.sources.registry\n"
        "large = {'s3fs', 'gcsfs', 'huggingface_hub', 'aiobotocore', 'fsspec', 'google', 'aiohttp'}\n"
        "print(sorted(large & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.strip() == "[]"


def test_an_unknown_scheme_stalls_and_says_which_there_are() -> None:
    error = refusal("ftp://host/file", Credentials())
    assert error.reason is Reason.UNSUPPORTED_SCHEME
    assert all(scheme in error.message for scheme in SCHEMES)


@pytest.mark.parametrize("uri", ["s3://bucket/key", "gs://bucket/key", "hf://org/model"])
def test_named_credentials_that_hold_nothing_for_the_scheme_are_missing(uri: str) -> None:
    empty = Credentials.from_secret({"unrelated": b"x"}, {})
    assert refusal(uri, empty).reason is Reason.CREDENTIALS_MISSING


@pytest.mark.parametrize(
    ("uri", "kind"),
    [("s3://bucket/key", "gcs"), ("hf://org/model", "s3"), ("https://host/file", "s3")],
)
def test_an_entry_of_another_type_is_refused(uri: str, kind: str) -> None:
    entry = {"type": kind, "token": "t", "access_key_id": "a", "secret_access_key": "b"}
    error = refusal(uri, Credentials.from_storage_config(entry, {}))
    assert error.reason is Reason.CREDENTIALS_INVALID


@pytest.mark.parametrize("uri", ["s3://bucket/key", "hf://org/model"])
def test_stored_secrets_do_not_go_where_a_user_points(uri: str) -> None:
    entry = {"token": "t", "access_key_id": "a", "secret_access_key": "b"}
    found = Credentials.from_storage_config(entry, {"endpoint_url": "https://evil.example"})
    assert refusal(uri, found).reason is Reason.SOURCE_NOT_ALLOWED
