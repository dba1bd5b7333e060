"""Events as the API server gets them: few, counted, and never at their sender's expense."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from shared.domain.reasons import Reason
from shared.kube.client import KubeClient
from shared.kube.events import EventRecorder, ObjectRef
from shared.kube.metrics import KubeMetrics
from tests.unit.kube.virtual_time import now
from tests.unit.kube.wire import Answer, ApiServer, Asked, Cut, Silence, Step, refusal

MODEL = ObjectRef("serving.kserve.io/v1alpha1", "LocalModelCache", "llama", "uid-1")


@pytest.fixture
async def recorder(client: KubeClient, metrics: KubeMetrics) -> AsyncIterator[EventRecorder]:
    made = EventRecorder(client, component="tester", instance="tester-0", metrics=metrics)
    task = asyncio.create_task(made.run(), name="events")
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def say(recorder: EventRecorder, message: str, about: ObjectRef = MODEL) -> None:
    recorder.event(
        about, type="Warning", reason=Reason.SOURCE_ERROR, message=message, action="Download"
    )


def stored(server: ApiServer) -> dict[str, dict[str, Any]]:
    """Makes `server` keep events; returns them by name."""
    kept: dict[str, dict[str, Any]] = {}

    def respond(asked: Asked) -> Step:
        if asked.method == "POST":
            name = asked.body["metadata"]["name"]
            if name in kept:
                return refusal(409, "AlreadyExists")
            kept[name] = asked.body
            return Answer(201, asked.body)
        name = asked.path.rsplit("/", 1)[1]
        if name not in kept:
            return refusal(404, "NotFound")
        kept[name] |= asked.body
        return Answer(200, kept[name])

    server.otherwise = respond
    return kept


async def settle() -> None:
    """Longer than the recorder waits between counting up."""
    await asyncio.sleep(60)


async def test_an_event_says_what_happened_to_what(
    server: ApiServer, recorder: EventRecorder
) -> None:
    kept = stored(server)
    say(recorder, "no route to host")
    await settle()
    (event,) = kept.values()
    assert event["metadata"]["namespace"] == "default"
    assert event["regarding"] == {
        "apiVersion": MODEL.api_version,
        "kind": MODEL.kind,
        "name": MODEL.name,
        "uid": MODEL.uid,
    }
    assert (event["type"], event["reason"], event["action"], event["note"]) == (
        "Warning",
        "SourceError",
        "Download",
        "no route to host",
    )
    assert (event["reportingController"], event["reportingInstance"]) == ("tester", "tester-0")
    assert "series" not in event


async def test_a_repetition_counts_up_and_makes_no_new_object(
    server: ApiServer, recorder: EventRecorder
) -> None:
    kept = stored(server)
    for _ in range(100):
        say(recorder, "no route to host")
        await asyncio.sleep(1)
    await settle()
    (event,) = kept.values()
    assert event["series"]["count"] == 100
    # 100 s of repetitions are written every 30 s.
    assert len(server.asked) <= 6


async def test_after_a_quiet_time_the_same_is_news_again(
    server: ApiServer, recorder: EventRecorder
) -> None:
    kept = stored(server)
    say(recorder, "no route to host")
    await asyncio.sleep(3600)
    say(recorder, "no route to host")
    await settle()
    assert len(kept) == 2


async def test_an_event_that_the_server_forgot_is_made_again_with_its_count(
    server: ApiServer, recorder: EventRecorder
) -> None:
    kept = stored(server)
    say(recorder, "no route to host")
    await settle()
    kept.clear()
    say(recorder, "no route to host")
    await settle()
    (event,) = kept.values()
    assert event["series"]["count"] == 2


async def test_an_object_that_never_rests_gets_a_bounded_number_of_events(
    server: ApiServer, recorder: EventRecorder, registry: CollectorRegistry
) -> None:
    kept = stored(server)
    for number in range(360):
        say(recorder, f"try {number}")
        await asyncio.sleep(10)
    other = ObjectRef("v1", "Node", "n1")
    say(recorder, "somebody else", other)
    await settle()
    # 25 at once, then one in five minutes; who is quiet is not held back by who is not.
    assert 30 <= len(kept) <= 40
    assert any(event["regarding"]["name"] == "n1" for event in kept.values())
    dropped = registry.get_sample_value("event_recorder_events_total", {"outcome": "dropped"})
    assert dropped == 361 - len(kept)


@pytest.mark.parametrize(
    "answer", [refusal(403, "Forbidden"), refusal(500), Cut(), Silence(), refusal(422, "Invalid")]
)
async def test_a_server_that_refuses_is_asked_seldom_and_the_sender_notices_nothing(
    server: ApiServer, recorder: EventRecorder, registry: CollectorRegistry, answer: Step
) -> None:
    server.otherwise = lambda _: answer
    for _ in range(300):
        before = now()
        say(recorder, "no route to host")
        assert now() == before
        await asyncio.sleep(1)
    assert len(server.asked) <= 20
    failed = registry.get_sample_value("event_recorder_events_total", {"outcome": "failed"})
    assert failed is not None
    assert failed >= 4
    kept = stored(server)
    say(recorder, "no route to host")
    await settle()
    assert [event["series"]["count"] for event in kept.values()] == [301]


async def test_an_event_whose_answer_was_lost_is_counted_up_later(
    server: ApiServer, recorder: EventRecorder
) -> None:
    kept = stored(server)
    respond = server.otherwise

    def loses(asked: Asked) -> Step:
        respond(asked)
        server.otherwise = respond
        return Cut()

    server.otherwise = loses
    for _ in range(3):
        say(recorder, "no route to host")
        await settle()
    (event,) = kept.values()
    assert event["series"]["count"] == 3


async def test_a_flood_keeps_a_bounded_number_waiting(
    server: ApiServer, recorder: EventRecorder, registry: CollectorRegistry
) -> None:
    kept = stored(server)
    for number in range(5000):
        say(recorder, "gone", ObjectRef("v1", "Node", f"n{number}"))
    await settle()
    assert len(kept) == 1000
    labels = {"outcome": "dropped"}
    assert registry.get_sample_value("event_recorder_events_total", labels) == 4000


async def test_what_was_said_just_before_the_end_is_still_written(
    server: ApiServer, client: KubeClient
) -> None:
    kept = stored(server)
    recorder = EventRecorder(client, component="tester", instance="tester-0")
    task = asyncio.create_task(recorder.run())
    for _ in range(3):
        say(recorder, "repeated")
        await asyncio.sleep(1)
    respond = server.otherwise
    server.otherwise = lambda _: Silence()
    say(recorder, "under way")
    await server.until(2)
    say(recorder, "still waiting")
    server.otherwise = respond
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    counts = {event["note"]: event.get("series", {}).get("count", 1) for event in kept.values()}
    assert counts == {"repeated": 3, "under way": 1, "still waiting": 1}


async def test_the_end_is_not_kept_waiting_by_a_silent_server(
    server: ApiServer, client: KubeClient
) -> None:
    server.otherwise = lambda _: Silence()
    recorder = EventRecorder(client, component="tester", instance="tester-0")
    task = asyncio.create_task(recorder.run())
    say(recorder, "no route to host")
    await server.until(1)
    ended = now()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() - ended <= 3


async def test_a_message_of_any_text_is_taken_and_cut_to_a_kilobyte(
    server: ApiServer, recorder: EventRecorder
) -> None:
    kept = stored(server)
    for message in ("é" * 2000, "\ud800 half a character", "", "line\nline\0"):
        say(recorder, message)
    await settle()
    assert len(kept) == 4
    assert all(len(event["note"].encode()) <= 1024 for event in kept.values())
