"""Statuses, waits, digests and listings: the pure parts of all sources."""

import unicodedata
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import Retryable, SourceChanged, Stalled
from agent.headers import byte_count, retry_after
from agent.manifest import Algorithm, ArchiveKind, Digest, RemoteFile, safe_path
from agent.sources.digests import header_digests
from agent.sources.failures import http_failure
from agent.sources.listing import (
    Tally,
    archive_kind,
    check_collisions,
    listing_digest,
    manifest,
)
from shared.domain.reasons import Reason

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
MD5 = bytes(range(16))


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (404, Stalled, Reason.SOURCE_NOT_FOUND),
        (410, Stalled, Reason.SOURCE_NOT_FOUND),
        (401, Stalled, Reason.ACCESS_DENIED),
        (403, Stalled, Reason.ACCESS_DENIED),
        (412, SourceChanged, Reason.SOURCE_CHANGED),
        (429, Retryable, Reason.SOURCE_THROTTLED),
        (503, Retryable, Reason.SOURCE_THROTTLED),
        (500, Retryable, Reason.SOURCE_ERROR),
        (400, Stalled, Reason.INVALID_SOURCE),
    ],
)
def test_a_status_says_what_happens_next(status: int, kind: type, reason: Reason) -> None:
    error = http_failure(status, "s3://b/k", after=3.0)
    assert type(error) is kind
    assert error.reason is reason
    assert "s3://b/k" in error.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("999999", 86400.0),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("\u00b2", None),
        ("9" * 5000, 86400.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 86400.0),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after({"RETRY-AFTER": text}, now=NOW) == seconds


@given(st.text(max_size=40))
def test_any_retry_after_is_survived(text: str) -> None:
    found = retry_after({"Retry-After": text}, now=NOW)
    assert found is None or 0 <= found <= 86400


def test_digests_of_all_dialects_are_understood_strongest_first() -> None:
    sha = b64encode(bytes(32)).decode()
    md5 = b64encode(MD5).decode()
    for headers, algorithms in (
        ({"Repr-Digest": f"md5=:{md5}:, sha-256=:{sha}:"}, [Algorithm.SHA256, Algorithm.MD5]),
        ({"Digest": f"SHA-256={sha}"}, [Algorithm.SHA256]),
        ({"X-Goog-Hash": f"crc32c=AAAAAA==,md5={md5}"}, [Algorithm.MD5, Algorithm.CRC32C]),
        ({"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, [Algorithm.CRC64NVME]),
        ({"X-Checksum-Sha256": "ab" * 32}, [Algorithm.SHA256]),
        ({"Content-MD5": md5}, [Algorithm.MD5]),
        ({"Content-MD5": "nonsense", "Digest": "sha-256=short"}, []),
        ({"Content-MD5": md5, "Content-Encoding": "gzip"}, []),
    ):
        found = header_digests(headers, whole=True)
        assert [digest.algorithm for digest in found] == algorithms
    assert header_digests({"Content-MD5": md5}, whole=False) == ()
    assert header_digests({"Content-MD5": md5}, whole=True) == (Digest(Algorithm.MD5, MD5.hex()),)


def file(path: str, size: int = 1, validator: str = "v") -> RemoteFile:
    return RemoteFile(path, size, validator, path)


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@given(st.lists(NAMES, max_size=8))
def test_collisions_are_found_exactly_when_a_disk_would_refuse(names: list[str]) -> None:
    folders = {name[:cut] for name in names for cut, c in enumerate(name) if c == "/"}
    collide = len(set(names)) < len(names) or not folders.isdisjoint(names)
    if collide:
        with pytest.raises(Stalled) as caught:
            check_collisions(names)
        assert caught.value.reason is Reason.UNSAFE_PATH
    else:
        check_collisions(names)


NAMES = st.text(
    st.sampled_from("a.~ -[]^\\\n\x00\x1f\x7f\x85é\ud800"), max_size=4
) | st.sampled_from([".", "..", "...", "a" * 255, "a" * 256, "é" * 128])


@given(st.lists(NAMES, max_size=14).map("/".join))
@example("a/" * 1536)
@example("/".join(["a" * 255] * 12))
@example("/".join(["a" * 255] * 12 + ["a"]))
def test_a_path_is_refused_exactly_when_it_could_leave_its_folder_or_not_be_created(
    path: str,
) -> None:
    parts = path.split("/")
    safe = (
        not {"", ".", ".."} & set(parts)
        and not any(
            character == "\\" or unicodedata.category(character) in {"Cc", "Cs"}
            for character in path
        )
        and max(len(part.encode()) for part in parts) <= 255
        and len(path.encode()) <= 3072
    )
    if safe:
        assert safe_path(path) == path
    else:
        with pytest.raises(Stalled) as caught:
            safe_path(path)
        assert caught.value.reason is Reason.UNSAFE_PATH


def test_the_revision_tells_every_listing_from_every_other() -> None:
    listings = [
        [file("a")],
        [file("a", size=2)],
        [file("a", validator="w")],
        [file("b")],
        [file("a"), file("b")],
        [file("a1", validator="")],
        [file("a", validator="1v")],
    ]
    assert len({listing_digest(files) for files in listings}) == len(listings)


def test_order_does_not_matter_to_the_revision() -> None:
    both = [file("a"), file("b")]
    assert manifest("s3://b", both) == manifest("s3://b", reversed(both))


def test_only_a_lone_archive_is_unpacked() -> None:
    assert manifest("u", [file("m.tgz")]).archive is ArchiveKind.TAR_GZ
    assert manifest("u", [file("m.tgz"), file("x")]).archive is None
    assert manifest("u", [file("m.tgz")], unpack=False).archive is None
    assert archive_kind("model.gz") is None


def test_a_listing_ends_at_as_many_entries_as_an_archive_may_have() -> None:
    tally = Tally("s3://models")
    for _ in range(200_000):
        tally.add("a")
    with pytest.raises(Stalled, match=r"^sourceModelUri: s3://models lists more than 200,000 ent"):
        tally.add("a")


def test_a_listing_ends_before_long_names_fill_the_memory() -> None:
    tally = Tally("s3://models")
    for _ in range(60 << 10):
        tally.add("n" * 1024)
    with pytest.raises(Stalled, match="60 MiB of names"):
        tally.add("n")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("17", 17),
        ("", None),
        ("-1", None),
        ("1e3", None),
        ("\u00b2", None),
        ("9" * 5000, None),
    ],
)
def test_a_count_of_bytes_is_a_number_that_a_file_may_have(text: str, count: int | None) -> None:
    assert byte_count(text) == count
