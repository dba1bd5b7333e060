import pytest

from agent.errors import Retryable, SourceChanged, Stalled
from agent.transfer.answers import (
    Refused,
    check_encoding,
    check_partial,
    check_whole,
    check_window,
    failure,
)
from shared.domain.reasons import Reason


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, Stalled, Reason.SOURCE_ERROR),
        (408, Retryable, Reason.SOURCE_ERROR),
        (412, SourceChanged, Reason.SOURCE_CHANGED),
        (416, SourceChanged, Reason.SOURCE_CHANGED),
        (429, Retryable, Reason.SOURCE_THROTTLED),
        (500, Retryable, Reason.SOURCE_ERROR),
        (503, Retryable, Reason.SOURCE_THROTTLED),
    ],
)
def test_a_status_says_what_happens_next(
    status: int, kind: type[Exception], reason: Reason
) -> None:
    found = failure(status, {}, what="f")
    assert type(found) is kind
    assert not isinstance(found, Refused)
    assert found.reason is reason


@pytest.mark.parametrize(
    ("status", "final"),
    [(401, Stalled), (403, Stalled), (404, SourceChanged), (410, SourceChanged)],
)
def test_a_refusal_is_tried_with_a_fresh_signature_first(
    status: int, final: type[Exception]
) -> None:
    found = failure(status, {}, what="f")
    assert isinstance(found, Refused)
    assert type(found.final) is final


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0),
        ("9999999", 86400.0),
        ("\u00b2", None),
    ],
)
def test_retry_after_is_honoured_up_to_a_day(text: str, seconds: float | None) -> None:
    found = failure(503, {"retry-after": text}, what="f")
    assert isinstance(found, Retryable)
    assert found.after == seconds


def test_another_range_than_the_one_asked_for_is_refused() -> None:
    check_partial({"content-range": "bytes 5-9/20"}, start=5, size=20, what="f")
    with pytest.raises(Retryable, match="another range"):
        check_partial({"content-range": "bytes 0-9/20"}, start=5, size=20, what="f")
    with pytest.raises(Retryable, match="another range"):
        check_partial({}, start=5, size=20, what="f")


def test_another_size_means_that_the_file_changed() -> None:
    with pytest.raises(SourceChanged, match="21 bytes now, 20 when it was listed"):
        check_partial({"content-range": "bytes 5-9/21"}, start=5, size=20, what="f")
    with pytest.raises(SourceChanged, match="21 bytes now"):
        check_whole({"content-length": "21"}, size=20, what="f")


def test_sizes_that_no_file_has_are_no_sizes() -> None:
    for text in ("\u00b2", "9" * 5000):
        check_whole({"content-length": text}, size=20, what="f")
        check_window({"content-length": text}, length=20, what="f")
        with pytest.raises(Retryable, match="another range"):
            check_partial({"content-range": f"bytes 5-9/{text}"}, start=5, size=20, what="f")


def test_compressed_content_is_not_the_file() -> None:
    check_encoding({"content-encoding": "identity"}, what="f")
    with pytest.raises(Retryable, match="gzip"):
        check_encoding({"content-encoding": "gzip"}, what="f")
