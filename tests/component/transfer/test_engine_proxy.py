"""Through the proxy that the environment names, and with an authority of one's own."""

import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.errors import FetchError, Stalled
from agent.policy import SourcePolicy
from agent.tls import Tls
from tests.component.transfer.fetching import PART, Fetching, Signer, remote
from tests.support.proxy import ForwardProxy
from tests.support.servers.web import WebServer

SIZES = [100, 3 * PART]


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
        assert proxy.seen
        assert not proxy.refused
        assert all(first.startswith("CONNECT") == (scheme == "https") for first in proxy.seen)
        # What is meant for the source is not for the proxy, where it can be helped.
        assert scheme == "http" or "signature" not in "".join(proxy.seen)
    assert fetching.content("proxied") == content


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
