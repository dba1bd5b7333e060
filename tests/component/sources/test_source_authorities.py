"""Whose certificates are trusted: the same ones for listings, for tokens and for bytes, wherever an admin names them."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import huggingface_hub
import pytest

from agent import tls
from agent.errors import FetchError
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from tests.component.agent.terminal import Cli
from tests.component.sources.copying import copied
from tests.component.sources.places import CONTENT, PLACES, World, service_account
from tests.component.sources.reading import resolved
from tests.support.servers.azure import ACCOUNT
from tests.support.servers.wire import WireStore

Own = Callable[[Path, str, pytest.MonkeyPatch], tuple[str, dict[str, str]]]


@pytest.fixture
def new_process() -> Iterator[None]:
    """Whom the system trusts is read once in a process."""

    def forget() -> None:
        tls._context.cache_clear()
        huggingface_hub.close_session()

    forget()
    yield
    forget()


@pytest.mark.usefixtures("new_process")
@pytest.mark.parametrize("kind", PLACES)
async def test_whom_the_system_trusts_is_trusted_by_every_source(
    kind: str,
    world: World,
    loopback_policy: SourcePolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = PLACES[kind](world)
    monkeypatch.setenv("SSL_CERT_FILE", str(place.authority))
    done = await copied(place.uri, tmp_path, loopback_policy, place.credentials(trusted=False))
    assert done.files == {"file": CONTENT}


async def test_the_bundle_of_aws_s_tools_counts_for_listing_and_bytes(
    world: World,
    loopback_policy: SourcePolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = PLACES["s3"](world)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(place.authority))
    done = await copied(place.uri, tmp_path, loopback_policy, place.credentials(trusted=False))
    assert done.files == {"file": CONTENT}


def _s3(folder: Path, tokens: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, str]]:
    (folder / "token").write_text("projected")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "token"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", tokens)
    return "s3://bucket/m", {"endpoint_url": "https://127.0.0.1:1"}


def _gs(folder: Path, tokens: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, str]]:
    return "gs://bucket/m", {
        "service_account": service_account(tokens),
        "endpoint_url": "https://127.0.0.1:1",
    }


def _az(folder: Path, tokens: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, str]]:
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", tokens)
    return "az://bucket/m", {
        "account_name": ACCOUNT,
        "tenant_id": "t",
        "client_id": "c",
        "client_secret": "canary",
    }


@pytest.mark.usefixtures("new_process")
@pytest.mark.parametrize("named", ["nobody", "SSL_CERT_FILE", "ca_bundle", "verify_ssl"])
@pytest.mark.parametrize("own", [_s3, _gs, _az])
async def test_who_gives_out_tokens_is_trusted_by_the_same_authorities(
    own: Own,
    named: str,
    world: World,
    wire_store: WireStore,
    loopback_policy: SourcePolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And by no others: who takes any certificate for bytes has not said so of who is shown a secret."""
    tokens = world.front(wire_store.url)
    uri, entry = own(tmp_path, tokens.url, monkeypatch)
    authority = world.files.authority
    match named:
        case "SSL_CERT_FILE":
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        case "ca_bundle":
            entry["ca_bundle"] = authority.read_text()
        case "verify_ssl":
            entry["verify_ssl"] = "false"
    with suppress(FetchError):
        await resolved(uri, loopback_policy, Credentials.from_storage_config(entry, {}))
    assert bool(wire_store.server.seen) == (named in {"SSL_CERT_FILE", "ca_bundle"})


@pytest.mark.parametrize("trusted", [False, True])
def test_google_s_own_identity_is_asked_for_where_the_system_trusts(
    world: World, wire_store: WireStore, tmp_path: Path, trusted: bool
) -> None:
    """The store itself is out of reach here."""
    tokens = world.front(wire_store.url)
    (tmp_path / "account.json").write_text(service_account(tokens.url))
    cli = Cli(
        GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "account.json"),
        HTTPS_PROXY="http://127.0.0.1:1",
        NO_PROXY="127.0.0.1",
        **({"SSL_CERT_FILE": str(world.files.authority)} if trusted else {}),
    )
    assert cli("resolve", "gs://bucket/m").code != 0
    assert bool(wire_store.server.seen) == trusted
