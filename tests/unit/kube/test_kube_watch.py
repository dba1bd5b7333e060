"""Lines of a watch as the wire brings them."""

import json

import pytest

from shared.kube import errors
from shared.kube.client import KubeClient
from shared.kube.transport import Wire
from tests.unit.kube.wire import (
    THINGS,
    ApiServer,
    Stream,
    bookmark,
    event,
    refusal,
    status,
    thing,
)


async def watched(client: KubeClient) -> list[tuple[str, Wire]]:
    events = client.watch(THINGS, resource_version="5", timeout_seconds=300, label_selector="a=b")
    return [event async for event in events]


async def test_a_watch_asks_for_bookmarks_and_an_end(server: ApiServer, client: KubeClient) -> None:
    server.say(Stream((event("ADDED", thing("a", 6)), bookmark(9))))
    assert [kind for kind, _ in await watched(client)] == ["ADDED", "BOOKMARK"]
    assert server.asked[0].query == {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "resourceVersion": "5",
        "timeoutSeconds": "300",
        "labelSelector": "a=b",
    }


async def test_objects_of_a_megabyte_and_lines_in_pieces_arrive_whole(
    server: ApiServer, client: KubeClient
) -> None:
    big = thing("big", 6, data="x" * (1 << 20))
    line = event("ADDED", big)
    pieces = (line[:10], line[10:70_000], line[70_000:] + b"\n" + event("ADDED", thing("a", 7))[:5])
    server.say(Stream((*pieces, event("ADDED", thing("a", 7))[5:])))
    seen = await watched(client)
    assert [wire["metadata"]["name"] for _, wire in seen] == ["big", "a"]
    assert len(seen[0][1]["data"]) == 1 << 20


async def test_a_line_without_end_is_not_collected_for_ever(
    server: ApiServer, client: KubeClient
) -> None:
    server.say(Stream(tuple(b"x" * (1 << 20) for _ in range(20)), "silence"))
    with pytest.raises(errors.Unreachable, match="line over"):
        await watched(client)


async def test_half_a_line_at_the_end_is_no_event(server: ApiServer, client: KubeClient) -> None:
    server.say(Stream((event("ADDED", thing("a", 6)), event("ADDED", thing("b", 7))[:-9])))
    assert [wire["metadata"]["name"] for _, wire in await watched(client)] == ["a"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (410, errors.Gone),
        (429, errors.TooManyRequests),
        (500, errors.ServerUnavailable),
        (504, errors.ServerUnavailable),
    ],
)
async def test_an_error_in_the_stream_and_one_instead_of_it_are_the_same(
    server: ApiServer, client: KubeClient, code: int, kind: type[errors.ApiError]
) -> None:
    server.say(Stream((event("ERROR", status(code)),)), refusal(code))
    for _ in range(2):
        with pytest.raises(kind):
            await watched(client)


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        b"null",
        b"[1]",
        b'"ADDED"',
        b"{}",
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":null}',
        b'{"type":"ADDED","object":{"metadata":null}}',
        b'{"type":"ERROR","object":"odd"}',
        json.dumps({"type": "ERROR", "object": {"code": "odd"}}).encode(),
        b"\xff\xfe",
    ],
)
async def test_what_is_no_event_breaks_the_watch_and_nothing_else(
    server: ApiServer, client: KubeClient, line: bytes
) -> None:
    server.say(Stream((line + b"\n",)))
    with pytest.raises(errors.Unreachable):
        await watched(client)
