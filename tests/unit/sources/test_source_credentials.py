"""What Secrets and storage-config entries may say, and what is said back when they are wrong."""

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import Stalled
from agent.sources.access import tls
from agent.sources.credentials import Credentials
from agent.tls import Tls
from shared.domain.reasons import Reason

ACCOUNT = {
    "type": "service_account",
    "client_email": "a@b.c",
    "private_key": "canary-key",
    "token_uri": "https://oauth2.googleapis.com/token",
}
NOTE = "serving.kserve.io/"


def refusal(build: object, *arguments: object) -> str:
    with pytest.raises(Stalled) as caught:
        build(*arguments)  # type: ignore[operator]
    assert caught.value.reason is Reason.CREDENTIALS_INVALID
    assert "canary" not in caught.value.message
    return caught.value.message


def test_a_secret_as_kserve_documents_it() -> None:
    found = Credentials.from_secret(
        {
            "AWS_ACCESS_KEY_ID": b"key\n",
            "AWS_SECRET_ACCESS_KEY": b"canary",
            "HF_TOKEN": b"hf_canary",
            "gcloud-application-credentials.json": json.dumps(ACCOUNT).encode(),
            "unrelated": b"\xff\xfe",
        },
        {
            f"{NOTE}s3-endpoint": "minio.models:9000",
            f"{NOTE}s3-usehttps": "0",
            f"{NOTE}s3-verifyssl": "0",
            f"{NOTE}s3-region": "eu-central-1",
            f"{NOTE}s3-useanoncredential": "false",
            f"{NOTE}s3-cabundle": "/etc/ssl/ca.pem",
        },
    )
    assert found.named
    assert found.s3.access_key_id == "key"
    assert found.s3.secret_access_key == "canary"
    assert found.s3.endpoint_url == "http://minio.models:9000"
    assert found.s3.region == "eu-central-1"
    assert found.s3.anonymous is False
    assert tls(found.s3) == Tls(verify=False, ca_bundle="/etc/ssl/ca.pem")
    assert found.hf.token == "hf_canary"
    assert found.hf.endpoint_url is None
    assert found.gcs.service_account == ACCOUNT


def test_a_mere_host_means_https() -> None:
    found = Credentials.from_secret({}, {f"{NOTE}s3-endpoint": "s3.example.com/"})
    assert found.s3.endpoint_url == "https://s3.example.com"


def test_no_value_shows_in_a_repr() -> None:
    found = Credentials.from_storage_config(
        {
            "access_key_id": "id",
            "secret_access_key": "canary",
            "session_token": "canary",
            "token": "canary",
            "ca_bundle": "-----BEGIN canary",
            "base64_service_account": b64encode(json.dumps(ACCOUNT).encode()).decode(),
        },
        {},
    )
    assert "canary" not in repr(found)
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    ("data", "notes", "named"),
    [
        ({"AWS_ACCESS_KEY_ID": b"canary"}, {}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": b"canary"}, {}, "AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": b"", "AWS_SECRET_ACCESS_KEY": b"canary"}, {}, "AWS_ACCESS_KEY_ID"),
        ({"HF_TOKEN": b"canary\xff"}, {}, "HF_TOKEN"),
        ({"HF_TOKEN": b"canary\nX-Evil: 1"}, {}, "HF_TOKEN"),
        ({"gcloud-application-credentials.json": b"canary"}, {}, "gcloud-application"),
        ({"gcloud-application-credentials.json": b'{"type":"external_account"}'}, {}, "gcloud"),
        (
            {"gcloud-application-credentials.json": b'{"type":"service_account"}'},
            {},
            "client_email",
        ),
        ({}, {f"{NOTE}s3-verifyssl": "perhaps"}, "s3-verifyssl"),
        ({}, {f"{NOTE}s3-endpoint": "ftp://canary"}, "s3-endpoint"),
        ({}, {f"{NOTE}s3-endpoint": "user:canary@host"}, "s3-endpoint"),
    ],
)
def test_a_malformed_secret_names_its_key(
    data: dict[str, bytes], notes: dict[str, str], named: str
) -> None:
    assert named in refusal(Credentials.from_secret, data, notes)


@pytest.mark.parametrize(
    ("entry", "parameters", "named"),
    [
        ({"access_key_id": ["canary"]}, {}, "access_key_id"),
        ({"access_key_id": "canary"}, {}, "secret_access_key"),
        ({"base64_service_account": "canary!"}, {}, "base64_service_account"),
        ({"endpoint_url": "minio:9000"}, {}, "endpoint_url"),
        ({"addressing_style": "canary"}, {}, "addressing_style"),
        ({}, {"endpoint_url": "canary"}, "storage.parameters.endpoint_url"),
        ({}, {"anonymous": "canary"}, "storage.parameters.anonymous"),
        ({}, {"access_key_id": "canary"}, "storage.parameters.secret_access_key"),
    ],
)
def test_a_malformed_entry_names_its_key(
    entry: dict[str, object], parameters: dict[str, str], named: str
) -> None:
    assert named in refusal(Credentials.from_storage_config, entry, parameters)


def test_parameters_override_an_entry_and_mark_its_endpoint() -> None:
    entry = {
        "type": "s3",
        "access_key_id": "id",
        "secret_access_key": "secret",
        "session_token": "session",
        "endpoint_url": "https://ours",
        "verify_ssl": True,
    }
    found = Credentials.from_storage_config(entry, {"region": "r", "verify_ssl": "false"})
    assert (found.s3.region, found.s3.verify_ssl, found.s3.session_token) == ("r", False, "session")
    assert not found.s3.endpoint_overridden
    moved = Credentials.from_storage_config(entry, {"endpoint_url": "https://theirs/"})
    assert moved.s3.endpoint_url == "https://theirs"
    assert moved.s3.endpoint_overridden
    own = {"endpoint_url": "https://theirs", "access_key_id": "a", "secret_access_key": "b"}
    theirs = Credentials.from_storage_config(entry | {"token": "hf"}, own)
    assert not theirs.s3.endpoint_overridden
    assert theirs.s3.session_token is None
    # Keys for S3 buy nobody the stored token for the Hub.
    assert theirs.hf.endpoint_overridden


def test_several_secrets_complete_each_other_and_the_first_wins() -> None:
    first = Credentials.from_secret({"HF_TOKEN": b"one"}, {})
    second = Credentials.from_secret({"HF_TOKEN": b"two"}, {f"{NOTE}s3-useanoncredential": "1"})
    found = Credentials.merged([first, second])
    assert found.hf.token == "one"
    assert found.s3.anonymous is True
    assert found.named


KEYS = [
    "type",
    "access_key_id",
    "secret_access_key",
    "endpoint_url",
    "anonymous",
    "token",
    "base64_service_account",
    "service_account",
    "verify_ssl",
    "addressing_style",
]
TEXT = st.text(max_size=12)
VALUES = st.one_of(TEXT, st.none(), st.booleans(), st.integers(), st.lists(TEXT, max_size=2))


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_any_entry_is_understood_or_refused_as_invalid(entry: dict[str, object]) -> None:
    try:
        found = Credentials.from_storage_config(entry, {})
    except Stalled as error:
        refused: Reason | None = error.reason
    else:
        refused = None
        assert (found.s3.access_key_id is None) == (found.s3.secret_access_key is None)
    assert refused in {None, Reason.CREDENTIALS_INVALID}
