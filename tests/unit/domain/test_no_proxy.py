"""NO_PROXY, as clusters write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.no_proxy import bypasses

CLUSTER = "localhost,127.0.0.1,10.0.0.0/8, fd00::/8,.svc,.cluster.local,*.corp.example,minio:9000"


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("localhost", 80),
        ("127.0.0.1", 9000),
        ("10.96.0.1", 443),
        ("fd12::1", 443),
        ("minio.models.svc", 9000),
        ("MINIO.models.svc.cluster.local", 9000),
        ("s3.corp.example", 443),
        ("minio", 9000),
    ],
)
def test_what_is_named_is_reached_directly(host: str, port: int) -> None:
    assert bypasses(CLUSTER, host, port)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("huggingface.co", 443),
        ("127.0.0.2", 80),
        ("11.0.0.1", 443),
        ("fe80::1", 443),
        ("evilsvc", 443),
        ("minio", 443),
        ("10.example.org", 443),
    ],
)
def test_what_is_not_goes_through_the_proxy(host: str, port: int) -> None:
    assert not bypasses(CLUSTER, host, port)
    assert bypasses("*", host, port)
    assert not bypasses("", host, port)


def test_an_ipv6_address_is_named_with_or_without_brackets_and_port() -> None:
    for entry in ("::1", "[::1]", "[::1]:443", "0:0:0:0:0:0:0:1"):
        assert bypasses(entry, "::1", 443), entry
    assert not bypasses("[::1]:8443", "::1", 443)


@given(st.text(), st.text())
def test_any_list_is_survived(no_proxy: str, host: str) -> None:
    bypasses(no_proxy, host, 443)
