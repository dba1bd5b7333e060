"""What a caller of the client gets when the API server refuses, throttles, breaks or is silent."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from shared.kube import errors
from shared.kube.client import KubeClient
from shared.kube.library import Configuration
from shared.kube.resource import NODES
from tests.unit.kube.virtual_time import now
from tests.unit.kube.wire import (
    THINGS,
    Answer,
    ApiServer,
    Cut,
    Silence,
    Step,
    listing,
    refusal,
    thing,
)

BODY: dict[str, Any] = {"metadata": {"name": "a"}, "spec": {"colour": "red"}}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(400, "BadRequest"), errors.Invalid),
        (refusal(401, "Unauthorized"), errors.Unauthorized),
        (refusal(403, "Forbidden"), errors.Forbidden),
        (refusal(404, "NotFound"), errors.NotFound),
        (refusal(409, "Conflict"), errors.Conflict),
        (refusal(409, "AlreadyExists"), errors.AlreadyExists),
        (refusal(410, "Expired"), errors.Gone),
        (refusal(422, "Invalid"), errors.Invalid),
        (refusal(429, "TooManyRequests", Retry_After="3600"), errors.TooManyRequests),
        (refusal(500, "InternalError"), errors.ServerUnavailable),
        (refusal(503, "ServiceUnavailable"), errors.ServerUnavailable),
        (refusal(418), errors.ApiError),
        (Answer(502, b"<html>bad gateway</html>"), errors.ServerUnavailable),
        (Answer(302, b"", {"Location": "http://127.0.0.1:1/"}), errors.ApiError),
        (Answer(200, b"<html>sign in</html>"), errors.Unreachable),
        (Cut(), errors.Unreachable),
        (Silence(), errors.Unreachable),
    ],
)
async def test_every_failure_is_an_error_of_its_own_kind(
    server: ApiServer, client: KubeClient, answer: Step, kind: type[errors.ApiError]
) -> None:
    server.otherwise = lambda _: answer
    with pytest.raises(errors.ApiError) as failed:
        await client.create(THINGS, BODY, namespace="default")
    assert type(failed.value) is kind
    if isinstance(answer, Answer) and answer.status >= 300:
        assert failed.value.status == answer.status
    assert failed.value.message


async def test_an_api_server_in_a_network_of_no_proxy_is_asked_directly(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "localhost, 127.0.0.0/8")
    server.say(Answer(201, BODY))
    client = KubeClient(Configuration(host=server.url), manager="tester", qps=100, burst=100)
    assert await client.create(THINGS, BODY, namespace="default") == BODY
    await client.close()


async def test_no_message_carries_the_token(server: ApiServer, client: KubeClient) -> None:
    server.otherwise = lambda _: Cut()
    with pytest.raises(errors.Unreachable) as failed:
        await client.get(THINGS, "a", namespace="default")
    assert server.asked[0].headers["Authorization"] == "Bearer secret"
    assert "secret" not in failed.value.message


async def test_credentials_that_cannot_be_read_just_now_are_an_outage_like_any_other(
    server: ApiServer,
) -> None:
    def unreadable(_: Configuration) -> None:
        raise OSError("the token is being rotated")

    configuration = Configuration(host=server.url, api_key={"BearerToken": "old"})
    configuration.refresh_api_key_hook = unreadable
    client = KubeClient(configuration, manager="tester", qps=100, burst=100)
    with pytest.raises(errors.Unreachable, match="rotated"):
        await client.create(THINGS, BODY, namespace="default")
    await client.close()


async def test_a_throttled_request_is_repeated_after_the_time_the_server_asks_for(
    server: ApiServer, client: KubeClient
) -> None:
    server.say(refusal(429, Retry_After="7"), refusal(429, Retry_After="3"), Answer(201, BODY))
    started = now()
    assert await client.create(THINGS, BODY, namespace="default") == BODY
    assert [round(asked.at - started) for asked in server.asked] == [0, 7, 10]


async def test_reads_and_applies_outlive_a_short_outage(
    server: ApiServer, client: KubeClient
) -> None:
    server.say(refusal(503), Cut(), Answer(200, BODY), refusal(500), Answer(200, BODY))
    assert await client.get(THINGS, "a", namespace="default") == BODY
    assert await client.apply(THINGS, BODY, namespace="default") == BODY


async def test_a_write_that_may_have_happened_is_not_repeated(
    server: ApiServer, client: KubeClient
) -> None:
    server.otherwise = lambda _: refusal(500)
    with pytest.raises(errors.ServerUnavailable):
        await client.create(THINGS, BODY, namespace="default")
    with pytest.raises(errors.ServerUnavailable):
        await client.update(THINGS, BODY, namespace="default")
    with pytest.raises(errors.ServerUnavailable):
        await client.merge_patch(THINGS, "a", {}, namespace="default")
    with pytest.raises(errors.ServerUnavailable):
        await client.delete(THINGS, "a", namespace="default")
    assert [asked.method for asked in server.asked] == ["POST", "PUT", "PATCH", "DELETE"]


async def test_what_is_lost_with_a_connection_is_sent_once_a_try(
    server: ApiServer, client: KubeClient
) -> None:
    """Also on a connection that answered before; the library would send it again by itself."""
    server.say(Answer(200, BODY), Cut(), Answer(200, BODY), Cut())
    await client.get(THINGS, "a", namespace="default")
    with pytest.raises(errors.Unreachable):
        await client.update(THINGS, BODY, namespace="default")
    await client.get(THINGS, "a", namespace="default")
    with pytest.raises(errors.Unreachable):
        await client.delete(THINGS, "a", namespace="default")
    assert [asked.method for asked in server.asked] == ["GET", "PUT", "GET", "DELETE"]


@pytest.mark.parametrize("answer", [refusal(429), refusal(503)])
async def test_a_lasting_outage_is_reported_after_a_few_tries(
    server: ApiServer, client: KubeClient, answer: Step
) -> None:
    server.otherwise = lambda _: answer
    started = now()
    with pytest.raises(errors.ApiError):
        await client.get(THINGS, "a", namespace="default")
    assert 2 <= len(server.asked) <= 5
    assert 1 <= now() - started <= 20


async def test_every_request_has_a_time_limit(server: ApiServer, client: KubeClient) -> None:
    server.otherwise = lambda _: Silence()
    started = now()
    with pytest.raises(errors.Unreachable):
        await client.update(THINGS, BODY, namespace="default")
    assert 25 <= now() - started <= 35


async def test_a_list_is_read_in_pages_with_the_same_selectors(
    server: ApiServer, client: KubeClient
) -> None:
    server.say(
        listing(thing("a", 1), version=10, more="t2"),
        listing(thing("b", 2), version=10, more="t3"),
        listing(version=10),
    )
    items, version = await client.list(
        THINGS, namespace="default", label_selector="x=y", field_selector="metadata.name=a", limit=1
    )
    assert [item["metadata"]["name"] for item in items] == ["a", "b"]
    assert version == "10"
    common = {"limit": "1", "labelSelector": "x=y", "fieldSelector": "metadata.name=a"}
    assert [asked.query for asked in server.asked] == [
        common,
        {**common, "continue": "t2"},
        {**common, "continue": "t3"},
    ]


async def test_without_leadership_nothing_is_written_and_reads_go_on(
    server: ApiServer, client: KubeClient
) -> None:
    server.otherwise = lambda _: Answer(200, BODY)
    client.fence_writes(lambda: 0.0)
    for write in (
        client.create(THINGS, BODY, namespace="default"),
        client.update(THINGS, BODY, namespace="default"),
        client.apply(THINGS, BODY, namespace="default"),
        client.merge_patch(THINGS, "a", {}, namespace="default"),
        client.json_patch(THINGS, "a", [], namespace="default"),
        client.delete(THINGS, "a", namespace="default"),
    ):
        with pytest.raises(errors.Fenced):
            await write
    assert server.asked == []
    assert await client.get(THINGS, "a", namespace="default") == BODY


async def test_a_write_under_way_ends_with_the_leadership(
    server: ApiServer, client: KubeClient
) -> None:
    until = now() + 3
    server.otherwise = lambda _: Silence()
    client.fence_writes(lambda: until - now())
    with pytest.raises(errors.ApiError):
        await client.apply(THINGS, BODY, namespace="default")
    assert now() <= until + 1
    assert len(server.asked) == 1


async def test_a_write_that_waited_for_its_turn_until_the_leadership_was_over_is_not_sent(
    server: ApiServer,
) -> None:
    server.otherwise = lambda _: Answer(200, BODY)
    client = KubeClient(Configuration(host=server.url), manager="tester", qps=0.5, burst=1)
    until = now() + 1
    client.fence_writes(lambda: until - now())
    await client.apply(THINGS, BODY, namespace="default")
    with pytest.raises(errors.Fenced):
        await client.apply(THINGS, BODY, namespace="default")
    assert len(server.asked) == 1
    until, began = now() + 3, now()
    server.otherwise = lambda _: Silence()
    with pytest.raises(errors.ApiError):
        await client.merge_patch(THINGS, "a", {}, namespace="default")
    assert 2 <= now() - began <= 3.1, "given what is left when it is sent"
    await client.close()


async def test_requests_beyond_the_clients_own_limit_wait_their_turn(
    server: ApiServer, registry: CollectorRegistry
) -> None:
    server.otherwise = lambda _: Answer(200, BODY)
    client = KubeClient(Configuration(host=server.url), manager="tester", qps=2, burst=3)
    started = now()
    await asyncio.gather(*(client.get(THINGS, "a", namespace="default") for _ in range(7)))
    await client.close()
    waited = sorted(round(asked.at - started, 1) for asked in server.asked)
    assert waited == [0, 0, 0, 0.5, 1, 1.5, 2]


async def test_requests_are_counted_by_verb_resource_and_code_and_by_nothing_else(
    server: ApiServer, client: KubeClient, registry: CollectorRegistry
) -> None:
    server.say(
        Answer(200, BODY),
        Answer(200, BODY),
        refusal(404),
        listing(version=1),
        Answer(201, BODY),
        refusal(409),
        Cut(),
    )
    for name in ("a", "b"):
        await client.get(THINGS, name, namespace=name)
    with pytest.raises(errors.NotFound):
        await client.get(THINGS, "c", namespace="default")
    await client.list(NODES)
    await client.create(THINGS, BODY, namespace="default")
    with pytest.raises(errors.Conflict):
        await client.update(THINGS, BODY, namespace="default")
    with pytest.raises(errors.Unreachable):
        await client.delete(THINGS, "a", namespace="default")
    (counted,) = (found for found in registry.collect() if found.name == "rest_client_requests")
    counts = {
        tuple(sample.labels[name] for name in ("verb", "method", "resource", "code")): sample.value
        for sample in counted.samples
        if sample.name.endswith("_total")
    }
    assert counts == {
        ("get", "GET", "things", "200"): 2,
        ("get", "GET", "things", "404"): 1,
        ("list", "GET", "nodes", "200"): 1,
        ("create", "POST", "things", "201"): 1,
        ("update", "PUT", "things", "409"): 1,
        ("delete", "DELETE", "things", "0"): 1,
    }
    assert (
        registry.get_sample_value("rest_client_request_duration_seconds_count", {"verb": "get"})
        == 3
    )
