"""oci:// where registries lie, and where what they hold is no model."""

from pathlib import Path
from typing import Any

import pytest

from agent.errors import FetchError, Stalled
from agent.manifest import RemoteFile
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.copying import copied
from tests.component.sources.reading import opened, resolved
from tests.support.servers.registry import (
    IMAGE_CONFIG,
    LAYER,
    PASSWORD,
    USER,
    RegistryServer,
    tar_of,
)
from tests.support.servers.threaded import Fault, ThreadedApp

HOST = "registry.test"


def at(server: RegistryServer, **entry: Any) -> Credentials:
    place = {"type": "oci", "endpoint_url": server.endpoint}
    return Credentials.from_storage_config({**place, **entry}, {})


async def failure(
    uri: str, policy: SourcePolicy, credentials: Credentials | None = None
) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy, credentials)
    assert "canary" not in caught.value.message
    return caught.value


async def test_a_password_is_not_sent_to_a_token_service_without_tls_elsewhere(
    loopback_policy: SourcePolicy,
) -> None:
    server = ThreadedApp("evil-registry")
    server.start()
    try:
        challenge = 'Bearer realm="http://token.example/t",service="s"'
        server.fault = Fault(401, headers={"WWW-Authenticate": challenge})
        credentials = Credentials.from_storage_config(
            {"endpoint_url": server.url, "registry": HOST, "username": USER, "password": PASSWORD},
            {},
        )
        error = await failure(f"oci://{HOST}/a/b:v1", loopback_policy, credentials)
        assert error.reason is Reason.SOURCE_NOT_ALLOWED
    finally:
        server.stop()


@pytest.mark.parametrize("status", [403, 405])
async def test_who_answers_no_head_is_asked_for_the_blob_all_the_same(
    loopback_policy: SourcePolicy, status: int
) -> None:
    server = ThreadedApp("registry-before-a-store")
    server.start()
    try:
        server.fault = Fault(status)
        credentials = Credentials.from_storage_config({"endpoint_url": server.url}, {})
        digest = f"sha256:{'1' * 64}"
        async with opened(f"oci://{HOST}/a/b", loopback_policy, credentials) as source:
            signed = await source.sign(RemoteFile("f", 3, digest, digest))
        assert isinstance(signed, SignedRequest)
        assert not signed.headers
    finally:
        server.stop()


async def test_a_manifest_that_is_not_the_digest_is_refused(
    loopback_policy: SourcePolicy,
) -> None:
    server = ThreadedApp("lying-registry")
    server.start()
    try:
        server.fault = Fault(200, body=b'{"schemaVersion": 2, "layers": []}')
        credentials = Credentials.from_storage_config({"endpoint_url": server.url}, {})
        uri = f"oci://{HOST}/a/b@sha256:{'1' * 64}"
        error = await failure(uri, loopback_policy, credentials)
        assert error.reason is Reason.CHECKSUM_MISMATCH
        server.fault = Fault(200, body=b"<html>")
        error = await failure(f"oci://{HOST}/a/b", loopback_policy, credentials)
        assert error.reason is Reason.SOURCE_ERROR
    finally:
        server.stop()


@pytest.mark.parametrize("title", ["../up", "/abs", "a/../b", "nul\x00", "back\\slash", ""])
async def test_titles_that_no_folder_can_hold_are_refused(
    registry_server: RegistryServer, loopback_policy: SourcePolicy, title: str
) -> None:
    name = "public/evil"
    registry_server.push_image(name, "v1", [registry_server.layer(name, b"x", title=title)])
    error = await failure(f"oci://{HOST}/{name}:v1", loopback_policy, at(registry_server))
    assert error.reason is Reason.UNSAFE_PATH


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"models/../../up": b"x"}, Reason.UNSAFE_PATH),
        ({"elsewhere/file": b"x"}, Reason.ARCHIVE_INVALID),
    ],
)
async def test_images_without_a_safe_model_are_refused(
    registry_server: RegistryServer,
    loopback_policy: SourcePolicy,
    tmp_path: Path,
    files: dict[str, bytes],
    reason: Reason,
) -> None:
    name = "public/evil-image"
    layer = registry_server.layer(name, tar_of(files))
    registry_server.push_image(name, "v1", [layer], config=IMAGE_CONFIG)
    with pytest.raises(Stalled) as caught:
        await copied(f"oci://{HOST}/{name}:v1", tmp_path, loopback_policy, at(registry_server))
    assert caught.value.reason is reason
    assert not list((tmp_path / "models").iterdir())


async def test_zstd_layers_are_refused_with_what_to_do(
    registry_server: RegistryServer, loopback_policy: SourcePolicy
) -> None:
    name = "public/zstd"
    layer = registry_server.layer(name, b"x", f"{LAYER}+zstd")
    registry_server.push_image(name, "v1", [layer], config=IMAGE_CONFIG)
    error = await failure(f"oci://{HOST}/{name}:v1", loopback_policy, at(registry_server))
    assert error.reason is Reason.INVALID_SOURCE
    assert "gzip" in error.message


@pytest.mark.parametrize(
    "uri",
    [
        "oci://host",
        "oci://host/UPPER",
        "oci://host/a:b:c",
        "oci://host/a@sha256:12",
        "oci://ho_st/a",
    ],
)
async def test_malformed_references_are_refused(uri: str) -> None:
    assert (await failure(uri, SourcePolicy())).reason is Reason.INVALID_SOURCE
