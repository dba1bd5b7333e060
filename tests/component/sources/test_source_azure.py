"""az:// and Azure's https:// against Azurite."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import FetchError, Retryable, Stalled
from agent.manifest import Algorithm, ArchiveKind, Digest
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from agent.sources.registry import kind_of
from shared.domain.reasons import Reason
from shared.domain.uri import SourceUri
from tests.component.sources.copying import MIB, copied, interrupted
from tests.component.sources.reading import content, get, only, opened, paths, resolved
from tests.support.processes import free_ports
from tests.support.servers.azure import (
    ACCOUNT,
    CLIENT,
    CLIENT_SECRET,
    KEY,
    OTHER_KEY,
    TENANT,
    AzureServer,
    TokenService,
)


@pytest.fixture(scope="module", autouse=True)
def _containers(azure_server: AzureServer) -> None:
    azure_server.make_container("models")
    azure_server.make_container("public", public=True)


@pytest.fixture
def service() -> Iterator[TokenService]:
    with TokenService() as server:
        yield server


def at(azure: AzureServer, **entry: str) -> Credentials:
    place = {"endpoint_url": azure.endpoint, "ca_bundle": str(azure.authority), "type": "azure"}
    return Credentials.from_storage_config({**place, "account_name": ACCOUNT, **entry}, {})


def keyed(azure: AzureServer, key: str = KEY) -> Credentials:
    return at(azure, account_key=key)


async def failure(uri: str, policy: SourcePolicy, credentials: Credentials) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy, credentials)
    assert "canary" not in caught.value.message
    assert "sig=" not in caught.value.message
    return caught.value


async def test_a_prefix_is_a_folder_and_never_its_sibling(
    azure_server: AzureServer, loopback_policy: SourcePolicy
) -> None:
    for name in ("sib/a/x", "sib/a/deep/y", "sib/ab/z", "sib/a.txt"):
        azure_server.put("models", name, name.encode())
    for uri in ("az://models/sib/a", "az://models/sib/a/"):
        manifest = await resolved(uri, loopback_policy, keyed(azure_server))
        assert paths(manifest) == ["deep/y", "x"]
        assert not manifest.pinned


async def test_a_single_archive_is_said_to_be_one(
    azure_server: AzureServer, loopback_policy: SourcePolicy
) -> None:
    azure_server.put("models", "packed/m.tar.gz", b"x")
    manifest = await resolved("az://models/packed/m.tar.gz", loopback_policy, keyed(azure_server))
    assert paths(manifest) == ["m.tar.gz"]
    assert manifest.archive is ArchiveKind.TAR_GZ


@pytest.mark.parametrize(
    "access", ["key", "sas", "sas in the secret", "sas in the uri", "environment"]
)
async def test_key_and_sas_read_ranges_and_md5_comes_with_the_listing(
    azure_server: AzureServer,
    loopback_policy: SourcePolicy,
    monkeypatch: pytest.MonkeyPatch,
    access: str,
) -> None:
    body = bytes(range(256)) * 4096
    azure_server.put_with_md5("models", "ranges/big", body, hashlib.md5(body).digest())
    sas = azure_server.sas("models")
    credentials = {
        "key": keyed(azure_server),
        "sas": at(azure_server, sas_token=f"?{sas}"),
        "sas in the uri": at(azure_server),
        "environment": at(azure_server),
        "sas in the secret": Credentials.from_secret(
            {"AZURE_STORAGE_SAS_TOKEN": sas.encode(), "AZURE_ACCOUNT_NAME": ACCOUNT.encode()}, {}
        ).with_parameters(
            {"endpoint_url": azure_server.endpoint, "ca_bundle": str(azure_server.authority)}
        ),
    }[access]
    host = azure_server.endpoint.removeprefix("https://").partition("/")[0]
    policy = replace(loopback_policy, credential_endpoints=frozenset({host}))
    uri = "az://models/ranges"
    if access == "sas in the uri":
        uri = f"https://{ACCOUNT}.blob.core.windows.net/models/ranges?{sas}"
    if access == "environment":
        monkeypatch.setenv("AZURE_STORAGE_ACCESS_KEY", KEY)
    async with opened(uri, policy, credentials) as source:
        file = only(await source.resolve(), "big")
        assert file.digests == (Digest(Algorithm.MD5, hashlib.md5(body).hexdigest()),)
        request = await source.sign(file)
        assert isinstance(request, SignedRequest)
        assert "sig=" not in repr(request.headers)
        got = await get(request, 1000, 70_000)
        assert (got.status, got.kept) == (206, True)
        assert got.body == body[1000:70_000]


async def test_a_blob_that_changed_is_refused(
    azure_server: AzureServer, loopback_policy: SourcePolicy
) -> None:
    azure_server.put("models", "changing/file", b"first")
    async with opened("az://models/changing", loopback_policy, keyed(azure_server)) as source:
        before = await source.resolve()
        azure_server.put("models", "changing/file", b"other")
        request = await source.sign(before.files[0])
        assert isinstance(request, SignedRequest)
        assert (await get(request, 0, 3)).status == 412
        assert (await source.resolve()).revision != before.revision


@pytest.mark.parametrize(
    "name", ["ünï/文件.bin", "a+b", "100%", "with space", "hash#tag", "what?", "a%2Fb", "q&a=b;c"]
)
async def test_odd_names_are_listed_and_read_as_they_are(
    azure_server: AzureServer, loopback_policy: SourcePolicy, name: str
) -> None:
    azure_server.put("models", f"odd/{name}", name.encode())
    async with opened("az://models/odd", loopback_policy, keyed(azure_server)) as source:
        file = only(await source.resolve(), name)
        assert await content(source, file) == name.encode()


async def test_marks_of_folders_are_no_files(
    azure_server: AzureServer, loopback_policy: SourcePolicy
) -> None:
    azure_server.put("models", "marks/sub", b"", metadata={"hdi_isfolder": "true"})
    azure_server.put("models", "marks/sub/file", b"x")
    manifest = await resolved("az://models/marks", loopback_policy, keyed(azure_server))
    assert paths(manifest) == ["sub/file"]


async def test_a_public_container_needs_no_credentials_and_a_private_one_says_so(
    azure_server: AzureServer, loopback_policy: SourcePolicy
) -> None:
    azure_server.put("public", "m/file", b"everybody's")
    nobody = at(azure_server, anonymous="true")
    async with opened("az://public/m", loopback_policy, nobody) as source:
        assert await content(source, only(await source.resolve(), "file")) == b"everybody's"
    error = await failure("az://models/m", loopback_policy, nobody)
    assert isinstance(error, Stalled)
    assert error.reason is Reason.ACCESS_DENIED
    assert "private" in error.message


async def test_a_wrong_key_is_denied(
    azure_server: AzureServer, loopback_policy: SourcePolicy
) -> None:
    error = await failure("az://models/m", loopback_policy, keyed(azure_server, OTHER_KEY))
    assert isinstance(error, Stalled)
    assert error.reason is Reason.ACCESS_DENIED


async def test_what_is_not_there_is_not_found(
    azure_server: AzureServer, loopback_policy: SourcePolicy
) -> None:
    azure_server.put("models", "there/file", b"x")
    for uri in ("az://models/nowhere", "az://models/there/fil", "az://no-such-container/x"):
        error = await failure(uri, loopback_policy, keyed(azure_server))
        assert isinstance(error, Stalled)
        assert error.reason is Reason.SOURCE_NOT_FOUND


def principal(azure: AzureServer, **secret: str) -> Credentials:
    """KServe's keys; the endpoint is the test's."""
    data = {
        "AZ_TENANT_ID": TENANT,
        "AZ_CLIENT_ID": CLIENT,
        "AZ_CLIENT_SECRET": CLIENT_SECRET,
        "AZURE_SERVICE_URL": azure.endpoint,
        **secret,
    }
    found = Credentials.from_secret({key: value.encode() for key, value in data.items()}, {})
    return replace(found, azure=replace(found.azure, ca_bundle=str(azure.authority)))


async def test_a_service_principal_signs_in_once_and_its_token_goes_with_each_request(
    azure_server: AzureServer,
    loopback_policy: SourcePolicy,
    service: TokenService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", service.url)
    azure_server.put("models", "principal/file", b"content")
    async with opened("az://models/principal", loopback_policy, principal(azure_server)) as source:
        file = only(await source.resolve(), "file")
        assert await content(source, file) == b"content"
        request = await source.sign(file)
    assert isinstance(request, SignedRequest)
    assert request.expires_in is not None
    assert 60 <= request.expires_in < 3600
    assert len(service.requests) == 1
    assert service.requests[0]["scope"] == "https://storage.azure.com/.default"
    async with opened("az://models/principal", loopback_policy, principal(azure_server)) as source:
        await asyncio.gather(*(source.sign(file) for _ in range(16)))
    assert len(service.requests) == 2


async def test_a_refused_service_principal_stalls(
    azure_server: AzureServer,
    loopback_policy: SourcePolicy,
    service: TokenService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", service.url)
    wrong = principal(azure_server, AZ_CLIENT_SECRET="canary-wrong")
    error = await failure("az://models/m", loopback_policy, wrong)
    assert error.reason is Reason.ACCESS_DENIED
    assert "invalid_client" in error.message


@pytest.mark.parametrize("own", ["secret", "workload identity", "managed identity"])
async def test_the_agents_own_identity_is_used_when_nothing_is_named(
    azure_server: AzureServer,
    loopback_policy: SourcePolicy,
    service: TokenService,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    own: str,
) -> None:
    (tmp_path / "token").write_text("canary-assertion")
    environment = {
        "secret": {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_SECRET": CLIENT_SECRET},
        "workload identity": {
            "AZURE_TENANT_ID": TENANT,
            "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"),
        },
        "managed identity": {},
    }[own]
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT)
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", service.url)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", service.url)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    azure_server.put("models", "own/file", b"content")
    own_place = at(azure_server)
    manifest = await resolved("az://models/own", loopback_policy, own_place)
    assert paths(manifest) == ["file"]
    theirs = Credentials.from_storage_config(
        {}, {"endpoint_url": azure_server.endpoint, "ca_bundle": str(azure_server.authority)}
    )
    before = len(service.requests)
    assert (await failure("az://models/own", loopback_policy, theirs)).reason is (
        Reason.ACCESS_DENIED
    )
    assert len(service.requests) == before


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("https://acct.blob.core.windows.net/models/llama", "az"),
        ("https://acct.z12.blob.storage.azure.net/models/llama", "az"),
        ("abfss://models@acct.dfs.core.windows.net/llama", "az"),
        ("https://blob.core.windows.net.evil.example/models/llama", "http"),
        ("https://host/org/repo.git", "git"),
    ],
)
def test_https_is_azures_where_kserve_takes_it_for_azures(uri: str, kind: str) -> None:
    assert kind_of(SourceUri.parse(uri)) == kind


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://acct.blob.core.windows.net/models/a/b", "az://acct/models/a/b"),
        ("abfss://models@acct.dfs.core.windows.net/a", "az://acct/models/a"),
        ("az://acct.blob.core.windows.net/models/a", "az://acct/models/a"),
        ("az://models@acct.blob.core.windows.net/a", "az://acct/models/a"),
        ("az://acct/models/a", "az://acct/models/a"),
    ],
)
async def test_every_form_names_account_container_and_blob(
    uri: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    error = await failure(uri, SourcePolicy(), Credentials())
    assert isinstance(error, Retryable)
    assert error.reason is Reason.SOURCE_UNREACHABLE
    assert error.message.startswith(f"{shown} ")


async def test_stored_secrets_do_not_go_to_hosts_that_are_not_azures(
    loopback_policy: SourcePolicy,
) -> None:
    secret = Credentials.from_secret({"AZURE_STORAGE_ACCESS_KEY": KEY.encode()}, {})
    error = await failure("az://models@evil.example/m", loopback_policy, secret)
    assert error.reason is Reason.SOURCE_NOT_ALLOWED


async def test_loopback_is_refused_where_nobody_allowed_it(azure_server: AzureServer) -> None:
    error = await failure("az://models/x", SourcePolicy(), keyed(azure_server))
    assert error.reason is Reason.SOURCE_NOT_ALLOWED


async def test_an_interrupted_copy_goes_on_where_it_was(
    azure_server: AzureServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    body = os.urandom(16 * MIB)
    azure_server.put("models", "resumed/model.bin", body)
    uri, credentials = "az://models/resumed", keyed(azure_server)
    await interrupted(uri, tmp_path, loopback_policy, credentials, after=8 * MIB)
    done = await copied(uri, tmp_path, loopback_policy, credentials)
    assert done.files == {"model.bin": body}
    assert done.moved <= 12 * MIB


async def test_a_blob_that_is_replaced_while_it_is_fetched_is_fetched_anew_and_never_mixed(
    azure_server: AzureServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    old, new = os.urandom(12 * MIB), os.urandom(12 * MIB)
    azure_server.put("models", "midway/model.bin", old)
    uri, credentials = "az://models/midway", keyed(azure_server)
    await interrupted(uri, tmp_path, loopback_policy, credentials, after=4 * MIB)
    azure_server.put("models", "midway/model.bin", new)
    done = await copied(uri, tmp_path, loopback_policy, credentials)
    assert done.files == {"model.bin": new}


async def test_content_that_is_not_what_its_md5_says_is_not_published(
    azure_server: AzureServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    azure_server.put_with_md5("models", "wrong/file", b"content", hashlib.md5(b"other").digest())
    with pytest.raises(Stalled) as caught:
        await copied("az://models/wrong", tmp_path, loopback_policy, keyed(azure_server))
    assert caught.value.reason is Reason.CHECKSUM_MISMATCH
    assert not list((tmp_path / "models").iterdir())
