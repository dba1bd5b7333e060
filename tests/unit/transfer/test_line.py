import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.policy import Endpoint, SourcePolicy
from agent.tls import SYSTEM_TLS
from agent.transfer.line import Head
from agent.transfer.pool import Pool

PLAIN = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "x"'


def test_a_plain_head_is_read() -> None:
    head = Head.parse("http://h/", PLAIN)
    assert (head.status, head.size, head.headers["etag"]) == (200, 5, '"x"')
    assert head.keeps_open
    assert not Head.parse("http://h/", f"{PLAIN}\r\nConnection: Close").keeps_open


@pytest.mark.parametrize(
    "text",
    [
        "",
        "HTTP/1.0 200 OK\r\nContent-Length: 5",
        "HTTP/1.1 ok\r\nContent-Length: 5",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK\r\nContent-Length: -5",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5",
        "HTTP/1.1 200 OK\r\nContent-Length: \u00b2",
        f"{PLAIN}\r\nContent-Length: 6",
        f"{PLAIN}\r\nTransfer-Encoding: chunked",
        f"{PLAIN}\r\n folded",
        f"{PLAIN}\r\nwithout a colon",
        f"{PLAIN}\r\nContent-Length : 9",
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_not_read(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — the reasons are nobody's
        Head.parse("http://h/", text)


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=200))
def test_any_other_text_is_refused_and_nothing_else_happens(text: str) -> None:
    for head in (text, f"HTTP/1.1 {text}", f"{PLAIN}\r\n{text}"):
        try:
            assert Head.parse("http://h/", head).size >= 0
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://h/a\r\nX-Evil: 1", {}),
        ("http://h/a b", {}),
        ("http://h/", {"Authorization": "a\r\nX-Evil: 1"}),
        ("http://h/", {"Authorization\r\nX-Evil": "1"}),
        ("http://h/", {"X": "\u2603"}),
    ],
)
def test_nothing_breaks_out_of_a_request(url: str, headers: dict[str, str]) -> None:
    via = Pool(SourcePolicy.unrestricted()).take("http://h/", SYSTEM_TLS, owner=None)
    try:
        request = via.request(url, headers)
    except ValueError:
        return
    assert b"Evil" not in request.partition(b"\r\n")[2]


def test_a_request_names_the_host_as_the_endpoint_has_it() -> None:
    pool = Pool(SourcePolicy.unrestricted())
    for url, host in (
        ("http://h/x?y=1", b"h"),
        ("https://h:443/x?y=1", b"h"),
        ("http://h:8080/x?y=1", b"h:8080"),
        ("http://[::1]:8080/x?y=1", b"[::1]:8080"),
    ):
        via = pool.take(url, SYSTEM_TLS, owner=None)
        assert via.endpoint == Endpoint.of(url)
        assert via.request(url, {"A": "b"}) == (
            b"GET /x?y=1 HTTP/1.1\r\nHost: " + host + b"\r\nA: b\r\n\r\n"
        )
