"""What Secrets and entries say to each kind of source beyond S3, Cloud Storage and the Hub."""

import json
from base64 import b64encode
from typing import Any

import pytest

from agent.errors import Stalled
from agent.policy import SourcePolicy
from agent.sources.access import tls
from agent.sources.credentials import Credentials
from agent.sources.registry import open_source
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri

KEY = b64encode(b"canary-key").decode()
PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"


def secret(**values: str) -> Credentials:
    return Credentials.from_secret({key: value.encode() for key, value in values.items()}, {})


def docker(auths: Any) -> Credentials:
    config = json.dumps({"auths": auths}).encode()
    return Credentials.from_secret({".dockerconfigjson": config}, {})


def test_azures_keys_are_kserves_with_the_older_names_first() -> None:
    found = secret(
        AZ_TENANT_ID="t",
        AZURE_TENANT_ID="newer",
        AZURE_CLIENT_ID="c",
        AZ_CLIENT_SECRET="canary",
        AZURE_STORAGE_ACCESS_KEY=KEY,
        AZURE_ACCOUNT_NAME="acct",
        AZURE_SERVICE_URL="https://acct.example/",
    ).azure
    assert (found.tenant_id, found.client_id, found.client_secret) == ("t", "c", "canary")
    assert (found.key, found.account) == (KEY, "acct")
    assert found.endpoint_url == "https://acct.example"
    assert "canary" not in repr(found)


def test_a_docker_configuration_gives_logins_by_registry() -> None:
    pair = b64encode(b"u:canary:with:colons").decode()
    found = docker(
        {
            "https://index.docker.io/v1/": {"auth": pair},
            "GHCR.io": {"username": "u", "password": "canary"},
            "quay.io": {"identitytoken": "canary"},
            "nothing.example": {},
        }
    )
    assert found.registry.logins == {
        "docker.io": ("u", "canary:with:colons"),
        "ghcr.io": ("u", "canary"),
        "quay.io": ("", "canary"),
    }
    assert "canary" not in repr(found)


def test_hdfs_keys_are_kserves() -> None:
    found = secret(
        HDFS_NAMENODE="https://a:9871; https://b:9871",
        HDFS_ROOTPATH="/user",
        USER_PROXY="me",
        HEADERS='{"X-Tenant": "canary"}',
        TLS_CA=PEM,
        TLS_SKIP_VERIFY="true",
    ).hdfs
    assert (found.endpoint_url, found.standby) == ("https://a:9871", ("https://b:9871",))
    assert (found.user, found.root) == ("me", "/user")
    assert found.headers == {"X-Tenant": "canary"}
    assert tls(found).verify is False
    assert tls(found).ca_bundle == PEM
    entry = {
        "type": "hdfs",
        "HDFS_NAMENODE": "http://a:1",
        "TLS_CA": b64encode(PEM.encode()).decode(),
    }
    assert Credentials.from_storage_config(entry, {}).hdfs.ca_bundle == PEM


@pytest.mark.parametrize(
    ("said", "value"),
    [("GIT_PASSWORD", "password"), ("GIT_USERNAME", "user"), ("GIT_HOST", "host")],
)
def test_gits_keys_are_kserves_with_a_host(said: str, value: str) -> None:
    assert getattr(secret(**{said: "x"}).git, value) == "x"


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"AZURE_STORAGE_ACCESS_KEY": "not base64 canary"}, "AZURE_STORAGE_ACCESS_KEY"),
        ({"AZURE_STORAGE_SAS_TOKEN": "canary"}, "AZURE_STORAGE_SAS_TOKEN"),
        ({"AZURE_CLIENT_SECRET": "canary"}, "tenant"),
        ({"AZURE_CLIENT_SECRET": "canary", "AZ_TENANT_ID": "t"}, "client"),
        ({"AZURE_SERVICE_URL": "acct.example"}, "AZURE_SERVICE_URL"),
        ({".dockerconfigjson": "canary"}, ".dockerconfigjson"),
        ({".dockerconfigjson": '{"auths": []}'}, "auths"),
        ({".dockerconfigjson": '{"auths": {"a": {"auth": "canary"}}}'}, ".dockerconfigjson"),
        ({"HEADERS": '{"X-A": 1}'}, "HEADERS"),
        ({"HEADERS": '{"X-A": "a\\r\\nX-B: b"}'}, "HEADERS"),
        ({"TLS_CA": "canary"}, "TLS_CA"),
        ({"HDFS_NAMENODE": "namenode:9870"}, "HDFS_NAMENODE"),
        ({"MODELSCOPE_API_TOKEN": "two words"}, "MODELSCOPE_API_TOKEN"),
    ],
)
def test_what_is_wrong_is_named_and_never_quoted(values: dict[str, str], key: str) -> None:
    with pytest.raises(Stalled) as caught:
        Credentials.from_secret({name: text.encode() for name, text in values.items()}, {})
    assert caught.value.reason is Reason.CREDENTIALS_INVALID
    assert key in caught.value.message
    assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    "uri",
    [
        "az://acct/container/m",
        "https://acct.blob.core.windows.net/container/m",
        "oci://ghcr.io/org/m:v1",
        "modelscope://org/m",
        "webhdfs://namenode:9870/m",
        "git+https://host/org/m",
    ],
)
@pytest.mark.parametrize("kind", ["s3", "nothing"])
def test_credentials_for_something_else_do_not_open_a_source(uri: str, kind: str) -> None:
    found = {
        "s3": Credentials.from_storage_config(
            {"type": "s3", "access_key_id": "a", "secret_access_key": "b"}, {}
        ),
        "nothing": Credentials.from_secret({"unrelated": b"x"}, {}),
    }[kind]
    with pytest.raises(Stalled) as caught:
        open_source(SourceUri.parse(uri), found, SourcePolicy())
    wanted = {"s3": Reason.CREDENTIALS_INVALID, "nothing": Reason.CREDENTIALS_MISSING}[kind]
    assert caught.value.reason is wanted


@pytest.mark.parametrize(
    ("uri", "entry"),
    [
        ("az://container/m", {"account_key": KEY, "account_name": "acct"}),
        ("oci://ghcr.io/org/m", {"registry": "ghcr.io", "username": "u", "password": "p"}),
        ("modelscope://org/m", {"token": "t"}),
        ("webhdfs://m", {"HDFS_DELEGATION_TOKEN": "t"}),
        ("git+https://host/m", {"password": "p", "host": "host"}),
    ],
)
def test_stored_secrets_do_not_go_where_a_user_points(uri: str, entry: dict[str, str]) -> None:
    found = Credentials.from_storage_config(entry, {"endpoint_url": "https://evil.example"})
    with pytest.raises(Stalled) as caught:
        open_source(SourceUri.parse(uri), found, SourcePolicy())
    assert caught.value.reason is Reason.SOURCE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("uri", "entry", "parameters"),
    [
        (
            "webhdfs://m",
            {"HDFS_DELEGATION_TOKEN": "t"},
            {"HDFS_NAMENODE": "https://listed.example;https://evil.example"},
        ),
        ("git+https://evil.example/m", {"password": "p"}, {"host": "evil.example"}),
        (
            "git+https://evil.example/m",
            {"password": "p", "host": "host"},
            {"host": "evil.example", "username": "u"},
        ),
    ],
)
def test_no_name_of_a_host_in_parameters_opens_a_way_for_stored_secrets(
    uri: str, entry: dict[str, str], parameters: dict[str, str]
) -> None:
    policy = SourcePolicy(credential_endpoints=frozenset({"listed.example"}))
    found = Credentials.from_storage_config(entry, parameters)
    with pytest.raises(Stalled) as caught:
        open_source(SourceUri.parse(uri), found, policy)
    assert caught.value.reason is Reason.SOURCE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("kind", "entry", "own"),
    [
        ("azure", {"account_key": KEY}, {"sas_token": "sig=own"}),
        ("azure", {"sas_token": "sig=stored"}, {"access_token": "own"}),
        ("azure", {"sas_token": "sig=stored"}, {"account_key": KEY}),
        (
            "azure",
            {"client_secret": "s", "tenant_id": "t", "client_id": "c"},
            {"access_token": "o"},
        ),
        ("hdfs", {"HDFS_DELEGATION_TOKEN": "stored"}, {"HEADERS": '{"X-Own": "own"}'}),
        ("hdfs", {"HEADERS": '{"X-Stored": "stored"}'}, {"HDFS_DELEGATION_TOKEN": "own"}),
    ],
)
def test_who_brings_a_secret_and_an_endpoint_gets_no_stored_one_beside_it(
    kind: str, entry: dict[str, str], own: dict[str, str]
) -> None:
    place = {"endpoint_url": "https://theirs.example"}
    mixed = getattr(Credentials.from_storage_config(entry, own | place), kind)
    alone = getattr(Credentials.from_storage_config({}, own | place), kind)
    names = ("key", "sas", "token", "client_secret", "delegation", "headers")
    for name in names:
        assert getattr(mixed, name, None) == getattr(alone, name, None)
