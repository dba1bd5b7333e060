"""Every kind of source through the environment's proxy, and with an authority of its owner's own."""

from pathlib import Path

import pytest

from agent.errors import FetchError
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from shared.domain.reasons import Reason
from tests.component.sources.copying import copied
from tests.component.sources.places import CONTENT, PLACES, World, service_account
from tests.component.sources.reading import resolved
from tests.support.proxy import ForwardProxy
from tests.support.servers.azure import ACCOUNT
from tests.support.servers.threaded import Fault
from tests.support.servers.wire import WireStore


@pytest.mark.parametrize("kind", PLACES)
async def test_a_copy_comes_through_the_proxy_from_whom_its_authority_vouches_for(
    kind: str,
    world: World,
    loopback_policy: SourcePolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = PLACES[kind](world)
    with pytest.raises(FetchError) as caught:
        await resolved(place.uri, loopback_policy, place.credentials(trusted=False))
    assert caught.value.reason is Reason.SOURCE_UNREACHABLE
    with ForwardProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        done = await copied(place.uri, tmp_path, loopback_policy, place.credentials(trusted=True))
        assert done.files == {"file": CONTENT}
        # Listing and bytes alike; git's bytes come with the listing.
        assert len(proxy.seen) >= (1 if kind == "git" else 2)
        assert not proxy.refused
        before = len(proxy.seen)
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.0/8")
        await resolved(place.uri, loopback_policy, place.credentials(trusted=True))
        assert len(proxy.seen) == before


@pytest.mark.parametrize("kind", ["s3", "gs", "hf", "oci"])
async def test_a_copy_comes_through_a_proxy_that_speaks_tls_itself(
    kind: str,
    world: World,
    loopback_policy: SourcePolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = PLACES[kind](world)
    with ForwardProxy() as proxy:
        front = world.front(proxy.url)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url_at(front.url))
        done = await copied(place.uri, tmp_path, loopback_policy, place.credentials(trusted=True))
        assert done.files == {"file": CONTENT}
        assert len(proxy.seen) >= 2
        assert not proxy.refused
        before = len(proxy.seen)
        entry = place.entry | {"verify_ssl": "false"}
        with pytest.raises(FetchError) as caught:
            await resolved(place.uri, loopback_policy, Credentials.from_storage_config(entry, {}))
        assert caught.value.reason is Reason.SOURCE_UNREACHABLE
        assert len(proxy.seen) == before


async def test_a_service_account_s_token_comes_the_same_way(
    world: World,
    wire_store: WireStore,
    loopback_policy: SourcePolicy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire_store.lists(["m/file"])
    tokens, store = world.front(wire_store.url), world.front(wire_store.url)
    entry = {
        "service_account": service_account(tokens.url),
        "endpoint_url": store.url,
    }
    place = world.place("gs://bucket/m", entry)
    with ForwardProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        await resolved(place.uri, loopback_policy, place.credentials(trusted=True))
        assert f"CONNECT {tokens.place} HTTP/1.1" in proxy.seen


@pytest.mark.parametrize("kind", ["gs", "az"])
async def test_who_takes_any_certificate_for_bytes_still_shows_keys_to_nobody_unknown(
    kind: str,
    world: World,
    wire_store: WireStore,
    loopback_policy: SourcePolicy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire_store.lists(["m/file"])
    front = world.front(wire_store.url)
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", front.url)
    entry = {
        "gs": {
            "service_account": service_account(front.url),
            "endpoint_url": front.url,
        },
        "az": {"account_name": ACCOUNT, "tenant_id": "t", "client_id": "c", "client_secret": "s"},
    }[kind]
    credentials = Credentials.from_storage_config({**entry, "verify_ssl": "false"}, {})
    with pytest.raises(FetchError) as caught:
        await resolved(f"{kind}://bucket/m", loopback_policy, credentials)
    assert caught.value.reason is Reason.SOURCE_UNREACHABLE
    assert "certificate" in caught.value.message
    assert not wire_store.server.seen


async def test_a_service_account_s_token_service_leads_to_no_refused_address(
    wire_store: WireStore, loopback_policy: SourcePolicy
) -> None:
    wire_store.lists(["m/file"])
    entry = {"service_account": service_account(wire_store.url), "endpoint_url": wire_store.url}
    for target in ("http://169.254.169.254/token", "http://127.0.0.2:1/token"):
        wire_store.fail(Fault(302, prefix="/oauth", headers={"Location": target}))
        with pytest.raises(FetchError) as caught:
            await resolved(
                "gs://bucket/m", loopback_policy, Credentials.from_storage_config(entry, {})
            )
        assert caught.value.reason is Reason.SOURCE_NOT_ALLOWED
