"""oci:// against a real registry with a token service, down to the published tree."""

import asyncio
import base64
import contextlib
import json
import os
import platform
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.errors import FetchError, Retryable, Stalled
from agent.manifest import Algorithm, Strength
from agent.origin import SignedRequest
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.copying import MIB, copied, interrupted
from tests.component.sources.reading import content, get, only, opened, paths, resolved
from tests.support.relay import Relay
from tests.support.servers.registry import (
    IDENTITY_TOKEN,
    IMAGE_CONFIG,
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    LAYER,
    PASSWORD,
    USER,
    RegistryServer,
    tar_of,
)

HOST = "registry.test"
WEIGHTS = os.urandom(3 * MIB)
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
RAW = "application/vnd.cncf.model.weight.v1.raw"


def at(server: RegistryServer, **entry: Any) -> Credentials:
    place = {"type": "oci", "endpoint_url": server.endpoint}
    return Credentials.from_storage_config({**place, **entry}, {})


def reader(registry: RegistryServer) -> Credentials:
    return at(registry, registry=HOST, username=USER, password=PASSWORD)


def docker(entry: dict[str, str], place: str = HOST) -> Credentials:
    config = json.dumps({"auths": {place: entry}}).encode()
    return Credentials.from_secret({".dockerconfigjson": config}, {})


async def failure(
    uri: str, policy: SourcePolicy, credentials: Credentials | None = None
) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await resolved(uri, policy, credentials)
    assert "canary" not in caught.value.message
    return caught.value


def artifact(registry: RegistryServer, name: str, tag: str = "v1") -> str:
    """As ORAS pushes files."""
    return registry.push_image(
        name,
        tag,
        [
            registry.layer(name, WEIGHTS, title="weights/model.safetensors"),
            registry.layer(name, b"{}", "application/json", title="config.json"),
        ],
    )


async def test_a_tag_becomes_a_digest_and_titled_layers_become_files(
    registry_server: RegistryServer, loopback_policy: SourcePolicy
) -> None:
    digest = artifact(registry_server, "public/artifact")
    for reference in (":v1", f":v1@{digest}", f"@{digest}"):
        uri = f"oci://{HOST}/public/artifact{reference}"
        async with opened(uri, loopback_policy, at(registry_server)) as source:
            manifest = await source.resolve()
            assert manifest.pinned
            assert manifest.revision == digest
            assert paths(manifest) == ["config.json", "weights/model.safetensors"]
            assert not manifest.packed
            file = only(manifest, "weights/model.safetensors")
            assert file.digests[0].algorithm is Algorithm.SHA256
            request = await source.sign(file)
            assert isinstance(request, SignedRequest)
            got = await get(request, 1000, 70_000)
            assert (got.status, got.body) == (206, WEIGHTS[1000:70_000])
            assert await content(source, only(manifest, "config.json")) == b"{}"


async def test_a_moved_tag_does_not_move_what_was_resolved(
    registry_server: RegistryServer, loopback_policy: SourcePolicy
) -> None:
    name = "public/moving"
    old = registry_server.push_image(name, "v1", [registry_server.layer(name, b"old", title="f")])
    registry_server.push_image(name, "v1", [registry_server.layer(name, b"new", title="f")])
    async with opened(f"oci://{HOST}/{name}:v1", loopback_policy, at(registry_server)) as source:
        before = await source.resolve(revision=old)
        assert await content(source, before.files[0]) == b"old"
        assert (await source.resolve()).revision != old


async def test_the_only_model_folder_of_an_image_is_published_with_the_upper_layer_on_top(
    registry_server: RegistryServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    name = "public/image"
    base = tar_of({"etc/passwd": b"root", "models/old": b"hidden", "models/d/x": b"1"}, packed=True)
    middle = tar_of({"models/config.json": b"{}", "models/w/model.bin": WEIGHTS}, packed=True)
    top = tar_of(
        {
            "models/.wh.old": b"",
            "models/config.json": b'{"a":1}',
            "models/d/.wh..wh..opq": b"",
            "models/d/y": b"2",
        }
    )
    layers = [
        registry_server.layer(name, base, f"{LAYER}+gzip"),
        registry_server.layer(name, middle, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        registry_server.layer(name, top),
    ]
    digest = registry_server.push_image(name, "v1", layers, config=IMAGE_CONFIG)
    done = await copied(f"oci://{HOST}/{name}:v1", tmp_path, loopback_policy, at(registry_server))
    assert done.files == {
        "config.json": b'{"a":1}',
        "w/model.bin": WEIGHTS,
        "d/y": b"2",
    }
    assert done.tree.revision == digest
    assert done.tree.verified_by is Strength.SHA256


async def test_an_index_leads_to_this_machines_image_and_is_itself_the_revision(
    registry_server: RegistryServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    name = "public/index"
    entries = []
    for machine in (MACHINE, "s390x", "unknown"):
        layer = registry_server.layer(name, tar_of({"models/which": machine.encode()}))
        digest = registry_server.push_image(name, machine, [layer], config=IMAGE_CONFIG)
        system = "unknown" if machine == "unknown" else "linux"
        entries.append(
            {
                **{"mediaType": IMAGE_MANIFEST, "digest": digest, "size": 1},
                "platform": {"os": system, "architecture": machine},
            }
        )
    index = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": entries}
    digest = registry_server.push_manifest(name, "all", index)
    done = await copied(f"oci://{HOST}/{name}:all", tmp_path, loopback_policy, at(registry_server))
    assert done.files == {"which": MACHINE.encode()}
    assert done.tree.revision == digest
    others = {**index, "manifests": entries[1:]}
    registry_server.push_manifest(name, "others", others)
    error = await failure(f"oci://{HOST}/{name}:others", loopback_policy, at(registry_server))
    assert error.reason is Reason.SOURCE_NOT_FOUND
    assert MACHINE in error.message


async def test_a_modelpack_of_raw_weights_and_packed_documents_is_one_tree(
    registry_server: RegistryServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    name = "public/modelpack"
    path = "org.cncf.model.filepath"
    layers = [
        registry_server.layer(name, WEIGHTS, RAW, annotations={path: "model.safetensors"}),
        registry_server.layer(
            name,
            tar_of({"docs/README.md": b"read me"}, packed=True),
            "application/vnd.cncf.model.doc.v1.tar+gzip",
            annotations={path: "docs"},
        ),
        registry_server.layer(name, b"attestation", "application/vnd.in-toto+json"),
    ]
    registry_server.push_image(
        name, "v1", layers, config="application/vnd.cncf.model.config.v1+json"
    )
    uri = f"oci://{HOST}/{name}:v1"
    done = await copied(uri, tmp_path, loopback_policy, at(registry_server))
    assert done.files == {"model.safetensors": WEIGHTS, "docs/README.md": b"read me"}


async def test_an_interrupted_pull_goes_on_where_it_was(
    registry_server: RegistryServer, loopback_policy: SourcePolicy, tmp_path: Path
) -> None:
    name, body = "public/resumed", os.urandom(16 * MIB)
    registry_server.push_image(name, "v1", [registry_server.layer(name, body, title="model.bin")])
    uri = f"oci://{HOST}/{name}:v1"
    await interrupted(uri, tmp_path, loopback_policy, at(registry_server), after=8 * MIB)
    done = await copied(uri, tmp_path, loopback_policy, at(registry_server))
    assert done.files == {"model.bin": body}
    assert done.moved <= 12 * MIB


@pytest.mark.parametrize("how", ["user", "docker", "docker auth", "identity token"])
async def test_logins_open_what_is_private(
    registry_server: RegistryServer, loopback_policy: SourcePolicy, how: str
) -> None:
    artifact(registry_server, "private/model")
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    found = {
        "user": reader(registry_server),
        "docker": docker({"username": USER, "password": PASSWORD}),
        "docker auth": docker({"auth": pair}, f"https://{HOST}/v1/"),
        "identity token": docker({"identitytoken": IDENTITY_TOKEN}),
    }[how]
    credentials = replace(
        found, registry=replace(found.registry, endpoint_url=registry_server.endpoint)
    )
    uri = f"oci://{HOST}/private/model:v1"
    async with opened(uri, loopback_policy, credentials) as source:
        manifest = await source.resolve()
        request = await source.sign(manifest.files[0])
        assert isinstance(request, SignedRequest)
        assert PASSWORD not in repr(request)
        assert request.expires_in is not None
        assert (await get(request)).status == 200


async def test_the_own_docker_configuration_is_used_when_nothing_is_named(
    registry_server: RegistryServer,
    loopback_policy: SourcePolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    artifact(registry_server, "private/own")
    auths = {HOST: {"username": USER, "password": PASSWORD}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    uri = f"oci://{HOST}/private/own:v1"
    await resolved(uri, loopback_policy, at(registry_server))
    nobody = at(registry_server, anonymous="true")
    assert (await failure(uri, loopback_policy, nobody)).reason is Reason.ACCESS_DENIED


async def test_many_connections_at_once_wait_for_one_login(
    registry_server: RegistryServer, loopback_policy: SourcePolicy
) -> None:
    artifact(registry_server, "private/together")
    uri = f"oci://{HOST}/private/together:v1"
    async with opened(uri, loopback_policy, reader(registry_server)) as listing:
        file = (await listing.resolve()).files[0]
    async with opened(uri, loopback_policy, reader(registry_server)) as source:
        before = len(registry_server.tokens.seen)
        signed = await asyncio.gather(*(source.sign(file) for _ in range(16)))
    assert all("Authorization" in one.headers for one in signed if isinstance(one, SignedRequest))
    assert len(registry_server.tokens.seen) == before + 1


async def test_a_token_that_ends_is_renewed(
    registry_server: RegistryServer, loopback_policy: SourcePolicy
) -> None:
    artifact(registry_server, "private/renewed")
    registry_server.token_seconds = 1
    try:
        uri = f"oci://{HOST}/private/renewed:v1"
        async with opened(uri, loopback_policy, reader(registry_server)) as source:
            manifest = await source.resolve()
            before = len(registry_server.tokens.seen)
            request = await source.sign(manifest.files[0])
            assert isinstance(request, SignedRequest)
            assert request.expires_in is not None
            assert request.expires_in <= 1
            async with asyncio.timeout(10):
                while len(registry_server.tokens.seen) == before:
                    await asyncio.sleep(0.05)
                    await source.sign(manifest.files[0])
    finally:
        registry_server.token_seconds = 300


class Gate(Relay):
    """Before a server on loopback; nothing passes while it is not `open`."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.open = True
        self._port = int(url.rpartition(":")[2])

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.open:
                with socket.create_connection(("127.0.0.1", self._port)) as server:
                    self._join(client, server)


@pytest.mark.parametrize("first", ["resolve", "sign"])
async def test_a_registry_that_was_away_for_a_moment_is_signed_in_to_all_the_same(
    registry_server: RegistryServer, loopback_policy: SourcePolicy, first: str
) -> None:
    artifact(registry_server, "private/away")
    uri = f"oci://{HOST}/private/away:v1"
    async with opened(uri, loopback_policy, reader(registry_server)) as listing:
        file = (await listing.resolve()).files[0]
    with Gate(registry_server.endpoint) as gate:
        credentials = at(
            registry_server,
            endpoint_url=f"http://{gate.place}",
            registry=HOST,
            username=USER,
            password=PASSWORD,
        )
        async with opened(uri, loopback_policy, credentials) as source:
            gate.open = False
            with pytest.raises(Retryable):
                await (source.resolve() if first == "resolve" else source.sign(file))
            gate.open = True
            signed = await source.sign(file)
            assert isinstance(signed, SignedRequest)
            assert "Authorization" in signed.headers


@pytest.mark.parametrize("size", [10, 3 * MIB])
@pytest.mark.parametrize("name", ["public/swept", "private/swept"])
async def test_a_blob_that_the_registry_has_swept_away_is_not_found(
    registry_server: RegistryServer,
    loopback_policy: SourcePolicy,
    tmp_path: Path,
    name: str,
    size: int,
) -> None:
    layer = registry_server.layer(name, os.urandom(size), title="model.bin")
    registry_server.push_image(name, "v1", [layer])
    registry_server.delete_blob(name, layer["digest"])
    uri = f"oci://{HOST}/{name}:v1"
    with pytest.raises(Stalled) as caught:
        await copied(uri, tmp_path, loopback_policy, reader(registry_server))
    assert caught.value.reason is Reason.SOURCE_NOT_FOUND
    assert layer["digest"] in caught.value.message


@pytest.mark.parametrize("stranger", ["nobody", "wrong password"])
async def test_who_may_not_read_is_denied(
    registry_server: RegistryServer, loopback_policy: SourcePolicy, stranger: str
) -> None:
    artifact(registry_server, "private/closed")
    credentials = {
        "nobody": at(registry_server),
        "wrong password": at(
            registry_server, registry=HOST, username=USER, password="canary-wrong"
        ),
    }[stranger]
    error = await failure(f"oci://{HOST}/private/closed:v1", loopback_policy, credentials)
    assert isinstance(error, Stalled)
    assert error.reason is Reason.ACCESS_DENIED


async def test_what_is_not_there_is_not_found(
    registry_server: RegistryServer, loopback_policy: SourcePolicy
) -> None:
    artifact(registry_server, "public/there")
    for name in ("public/there:v2", f"public/there@sha256:{'0' * 64}", "public/nowhere"):
        error = await failure(f"oci://{HOST}/{name}", loopback_policy, reader(registry_server))
        assert isinstance(error, Stalled)
        assert error.reason is Reason.SOURCE_NOT_FOUND


async def test_a_login_for_another_registry_is_not_used(
    registry_server: RegistryServer, loopback_policy: SourcePolicy
) -> None:
    asked = len(registry_server.tokens.seen)
    found = docker({"username": USER, "password": PASSWORD}, "ghcr.io")
    elsewhere = replace(
        found, registry=replace(found.registry, endpoint_url=registry_server.endpoint)
    )
    error = await failure(f"oci://{HOST}/public/there:v1", loopback_policy, elsewhere)
    assert error.reason is Reason.CREDENTIALS_MISSING
    assert len(registry_server.tokens.seen) == asked


async def test_loopback_is_refused_where_nobody_allowed_it(
    registry_server: RegistryServer,
) -> None:
    error = await failure(f"oci://{HOST}/a/b", SourcePolicy(), at(registry_server))
    assert error.reason is Reason.SOURCE_NOT_ALLOWED
