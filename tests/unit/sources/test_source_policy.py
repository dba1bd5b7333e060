"""Addresses, folders and endpoints that a policy lets through."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.errors import Retryable, Stalled
from agent.policy import SourcePolicy
from shared.domain.reasons import Reason


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "127.200.1.1",
        "::1",
        "169.254.169.254",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ],
)
def test_a_nodes_own_and_metadata_addresses_are_refused(ip: str) -> None:
    with pytest.raises(Stalled) as caught:
        SourcePolicy().check_address("some.host", ip)
    assert caught.value.reason is Reason.SOURCE_NOT_ALLOWED
    assert "some.host" in caught.value.message
    SourcePolicy.unrestricted().check_address("some.host", ip)


@pytest.mark.parametrize("ip", ["10.1.2.3", "192.168.0.1", "8.8.8.8", "2001:db8::1", "fd12::1"])
def test_a_clusters_own_networks_are_fine(ip: str) -> None:
    SourcePolicy().check_address("minio.models.svc", ip)


def test_what_an_admin_lists_is_allowed_and_nothing_beside_it() -> None:
    policy = SourcePolicy(allowed_networks=(ip_network("127.0.0.0/8"),))
    policy.check_address("localhost", "127.0.0.1")
    policy.check_address("localhost", "::ffff:127.0.0.1")
    for ip in ("::1", "169.254.169.254"):
        with pytest.raises(Stalled):
            policy.check_address("host", ip)


def test_names_pass_and_literal_addresses_are_checked() -> None:
    SourcePolicy().check_literal("huggingface.co")
    with pytest.raises(Stalled):
        SourcePolicy().check_literal("::1")


def test_folders_are_compared_by_component(tmp_path: Path) -> None:
    policy = SourcePolicy(allowed_file_roots=(tmp_path / "models",))
    assert policy.allows_file(tmp_path / "models")
    assert policy.allows_file(tmp_path / "models" / "a")
    assert not policy.allows_file(tmp_path / "models-private")
    assert not SourcePolicy().allows_file(tmp_path)
    assert SourcePolicy.unrestricted().allows_file(tmp_path)


def test_a_users_endpoint_gets_credentials_only_when_listed() -> None:
    policy = SourcePolicy(credential_endpoints=frozenset({"minio", "s3.local:9000"}))
    assert policy.may_receive_credentials("https://minio/")
    assert policy.may_receive_credentials("http://s3.local:9000")
    for url in ("http://s3.local:9001", "https://minio.evil.example", "nonsense"):
        assert not policy.may_receive_credentials(url)
        assert SourcePolicy.unrestricted().may_receive_credentials(url)


def test_proxies_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    policy = SourcePolicy()
    assert policy.proxy("https://huggingface.co/x") is None
    monkeypatch.setenv("HTTPS_PROXY", "proxy.corp:3128")
    monkeypatch.setenv("NO_PROXY", ".cluster.local")
    assert policy.proxy("https://huggingface.co/x") == "http://proxy.corp:3128"
    assert policy.proxy("http://huggingface.co/x") is None
    assert policy.proxy("https://minio.models.svc.cluster.local/x") is None
    assert policy.is_proxy("proxy.corp")
    assert not policy.is_proxy("huggingface.co")


@pytest.mark.parametrize("url", ["socks5://canary@proxy:1080", "http://canary@proxy:port", "://"])
def test_a_proxy_that_is_not_usable_is_told_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    policy = SourcePolicy()
    assert policy.proxy("https://10.1.2.3/x") is None
    with pytest.raises(Retryable, match="HTTPS_PROXY") as caught:
        policy.proxy("https://huggingface.co/x")
    assert "canary" not in caught.value.message
