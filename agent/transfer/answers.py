"""What an HTTP answer means for the bytes that were asked for. Pure."""

import re
from collections.abc import Mapping

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.headers import byte_count, retry_after
from shared.domain.reasons import Reason

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class Refused(Exception):
    """401, 403 and the like: a fresh signature may help. `final`: what it is when that does not help."""

    def __init__(self, final: FetchError) -> None:
        super().__init__(final.message)
        self.final = final


class RangesIgnored(Exception):
    """The server sent the whole file instead of the range."""


def check_partial(headers: Mapping[str, str], *, start: int, size: int | None, what: str) -> None:
    """206: raises SourceChanged when the range is not the one asked for, or the file's size is another."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
    if match is None or int(match[1]) != start:
        raise Retryable(Reason.SOURCE_ERROR, f"{what}: the server answers with another range")
    if size is not None and match[3] != "*" and int(match[3]) != size:
        raise SourceChanged(f"{what} has {match[3]} bytes now, {size} when it was listed")


def check_whole(headers: Mapping[str, str], *, size: int | None, what: str) -> None:
    """200: raises SourceChanged when the file's size is another."""
    length = headers.get("content-length", "")
    if size is not None and byte_count(length) not in (None, size):
        raise SourceChanged(f"{what} has {length} bytes now, {size} when it was listed")


def check_window(headers: Mapping[str, str], *, length: int, what: str) -> None:
    """200 to a window: it must bring that many bytes, where it says how many."""
    stated = headers.get("content-length", "")
    if byte_count(stated) not in (None, length):
        raise Retryable(Reason.SOURCE_ERROR, f"{what}: the server answers with another range")


def check_encoding(headers: Mapping[str, str], *, what: str) -> None:
    """The bytes must be the file's own, not a compressed form of them."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise Retryable(
            Reason.SOURCE_ERROR, f"{what}: the server sends it {encoding}-encoded, unasked"
        )


def failure(
    status: int, headers: Mapping[str, str], *, what: str, missing: str = ""
) -> FetchError | Refused:
    """The error for any other status. missing: as the signed request says it."""
    match status:
        case 401 | 403:
            return Refused(
                Stalled(Reason.ACCESS_DENIED, f"{what}: the source refuses access ({status})")
            )
        case 404 | 410:
            # Links that a source signs or redirects to may run out this way too.
            return Refused(
                Stalled(Reason.SOURCE_NOT_FOUND, missing)
                if missing
                else SourceChanged(f"{what} is gone ({status})")
            )
        case 412 | 416:
            return SourceChanged(f"{what} changed ({status})")
        case 429 | 503:
            return Retryable(
                Reason.SOURCE_THROTTLED,
                f"{what}: the source asks to slow down ({status})",
                after=retry_after(headers),
            )
        case _ if status >= 500 or status == 408:
            return Retryable(Reason.SOURCE_ERROR, f"{what}: the source answers {status}")
        case _:
            return Stalled(Reason.SOURCE_ERROR, f"{what}: the source answers {status}")
