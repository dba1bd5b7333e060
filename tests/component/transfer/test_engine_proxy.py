"""Through the proxy that the environment names, and with an authority of one's own."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.errors import FetchError, Retryable, Stalled
from agent.policy import SourcePolicy
from agent.tls import Tls
from tests.component.transfer.fetching import PART, Fetching, Signer, remote
from tests.support.certificates import ServerFiles, write_server
from tests.support.processes import wait_until
from tests.support.proxy import ForwardProxy
from tests.support.servers.web import WebServer
from tests.support.tls_front import TlsFront

SIZES = [100, 3 * PART]


def check_asked(proxy: ForwardProxy, scheme: str) -> None:
    """It let everything through, in tunnels where the source is behind TLS."""
    assert proxy.seen
    assert not proxy.refused
    assert all(first.startswith("CONNECT") == (scheme == "https") for first in proxy.seen)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_bytes_come_through_the_proxy(
    tmp_path: Path,
    web_server: WebServer,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    size: int,
) -> None:
    content = os.urandom(size)
    web_server.put("proxied", content)
    url = web_server.url if scheme == "http" else web_server.tls_url
    signer = Signer(url, {"Authorization": "canary"}, tls=Tls(ca_bundle=str(web_server.authority)))
    fetching = Fetching(tmp_path)
    with ForwardProxy() as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        await fetching.fetch([remote("proxied", content)], signer)
        check_asked(proxy, scheme)
        # What is meant for the source is not for the proxy, where it can be helped.
        assert scheme == "http" or "signature" not in "".join(proxy.seen)
    assert fetching.content("proxied") == content


async def until(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, seconds=20, what=what, interval=0.02)


def tunnels() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tunnel"]


@pytest.fixture
def files(tmp_path: Path) -> ServerFiles:
    return write_server(tmp_path / "authority")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_behind_tls_is_spoken_to_in_tls(
    tmp_path: Path,
    web_server: WebServer,
    files: ServerFiles,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    size: int,
) -> None:
    content = os.urandom(size)
    web_server.put("proxied", content)
    url = web_server.url if scheme == "http" else web_server.tls_url
    bundle = web_server.authority.read_text() + files.authority.read_text()
    fetching = Fetching(tmp_path)
    with ForwardProxy() as proxy, TlsFront(proxy.url, files) as front:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url_at(front.url))
        await fetching.fetch([remote("proxied", content)], Signer(url, tls=Tls(ca_bundle=bundle)))
        check_asked(proxy, scheme)
    assert fetching.content("proxied") == content


async def test_many_small_files_share_connections_through_a_proxy_behind_tls(
    tmp_path: Path, web_server: WebServer, files: ServerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {f"small-{index}": os.urandom(20_000 + index) for index in range(60)}
    for name, content in contents.items():
        web_server.put(name, content)
    bundle = web_server.authority.read_text() + files.authority.read_text()
    fetching = Fetching(tmp_path)
    with ForwardProxy() as proxy, TlsFront(proxy.url, files) as front:
        monkeypatch.setenv("https_proxy", proxy.url_at(front.url))
        signer = Signer(web_server.tls_url, tls=Tls(ca_bundle=bundle))
        await fetching.fetch([remote(name, content) for name, content in contents.items()], signer)
        assert len(proxy.seen) < len(contents) / 2
    assert {name: fetching.content(name) for name in contents} == contents
    await until(lambda: not tunnels(), "the end of all tunnels")


@pytest.mark.parametrize("verify", [True, False])
async def test_a_proxy_whom_nobody_vouches_for_is_told_nothing(
    tmp_path: Path,
    web_server: WebServer,
    files: ServerFiles,
    monkeypatch: pytest.MonkeyPatch,
    verify: bool,
) -> None:
    with ForwardProxy() as proxy, TlsFront(proxy.url, files) as front:
        monkeypatch.setenv("https_proxy", proxy.url_at(front.url))
        with pytest.raises(Retryable, match=r"the proxy 127.0.0.1.*certificate"):
            await Fetching(tmp_path).fetch(
                [remote("f", b"x")],
                Signer(web_server.tls_url, tls=Tls(verify, str(web_server.authority))),
            )
        assert not proxy.seen


async def test_cancelling_ends_what_waits_behind_a_proxy_s_tls(
    tmp_path: Path, web_server: WebServer, files: ServerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(8 << 20)
    web_server.put("proxied", content)
    bundle = web_server.authority.read_text() + files.authority.read_text()
    with ForwardProxy() as proxy, TlsFront(proxy.url, files) as front:
        monkeypatch.setenv("https_proxy", proxy.url_at(front.url))
        signer = Signer(f"{web_server.tls_url}/paced", tls=Tls(ca_bundle=bundle))
        fetching = Fetching(tmp_path)
        task = asyncio.create_task(fetching.fetch([remote("proxied", content)], signer))
        await until(lambda: fetching.moved > 0, "bytes")
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 3
    await until(lambda: not tunnels(), "the end of all tunnels")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_does_not_lead_to_refused_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, size: int
) -> None:
    with ForwardProxy() as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
        with pytest.raises(Stalled, match="link-local"):
            await Fetching(tmp_path).fetch(
                [remote("f", bytes(size))],
                Signer(f"{scheme}://169.254.169.254"),
                policy=SourcePolicy(allowed_networks=(ip_network("127.0.0.0/8"),)),
            )
        assert not proxy.seen


async def test_a_proxy_s_own_refusal_is_told_without_its_password(
    tmp_path: Path, web_server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ForwardProxy() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("p%40ss", "wrong"))
        with pytest.raises(FetchError) as caught:
            await Fetching(tmp_path).fetch([remote("f", b"x")], Signer(web_server.tls_url))
        assert proxy.refused
    assert "word" not in caught.value.message
    assert "canary" not in caught.value.message
