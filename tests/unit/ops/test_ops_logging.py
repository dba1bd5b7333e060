"""Log lines as a collector and as a person get them."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from shared.ops.limit import RateLimit
from shared.ops.logging import configure

Lines = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = before
    root.setLevel(level)


def lines(capture: Lines) -> list[dict[str, Any]]:
    out, err = capture.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_a_line_is_one_json_object_with_phrase_level_time_and_fields(capsys: Lines) -> None:
    configure("info", "json")
    structlog.get_logger("agent.fetch").info("fetch finished", bytes=5, model="ns/a\nb")
    (line,) = lines(capsys)
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert moment.utcoffset() == timedelta(0)
    assert line == {
        "event": "fetch finished",
        "level": "info",
        "logger": "agent.fetch",
        "bytes": 5,
        "model": "ns/a\nb",
    }


def test_other_libraries_log_the_same_way(capsys: Lines) -> None:
    configure("info", "json")
    logging.getLogger("some.library").warning("%d parts of %s", 3, "x")
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["logger"]) == (
        "3 parts of x",
        "warning",
        "some.library",
    )


def test_an_exception_is_part_of_its_line(capsys: Lines) -> None:
    configure("info", "json")
    for log in (structlog.get_logger("ours"), logging.getLogger("theirs")):
        try:
            raise ZeroDivisionError("by zero")
        except ZeroDivisionError:
            log.exception("pass failed")
    for line in lines(capsys):
        assert line["event"] == "pass failed"
        assert "ZeroDivisionError: by zero" in line["exception"]


def test_what_json_cannot_hold_is_still_logged(capsys: Lines) -> None:
    configure("info", "json")
    structlog.get_logger("ours").info("odd", path=object(), raw=b"\xff", broken="\ud800")
    assert lines(capsys)[0]["event"] == "odd"


def test_the_level_holds_for_everybody_and_may_be_changed(capsys: Lines) -> None:
    ours, theirs = structlog.get_logger("ours"), logging.getLogger("theirs")
    configure("warning", "json")
    ours.info("no")
    theirs.info("no")
    configure("debug", "json")
    ours.debug("yes")
    theirs.debug("yes")
    assert [line["event"] for line in lines(capsys)] == ["yes", "yes"]


def test_the_chatter_of_libraries_is_left_out_and_their_warnings_are_not(capsys: Lines) -> None:
    configure("debug", "json")
    for name in ("botocore", "aiohttp.access", "urllib3"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")
    assert [line["event"] for line in lines(capsys)] == ["trouble"] * 3


def test_fields_bound_once_stand_in_every_line(capsys: Lines) -> None:
    configure("info", "json")
    with structlog.contextvars.bound_contextvars(model="a"):
        structlog.get_logger("ours").info("one")
        logging.getLogger("theirs").warning("two")
    structlog.get_logger("ours").info("three")
    assert [line.get("model") for line in lines(capsys)] == ["a", "a", None]


def test_the_console_is_for_people(capsys: Lines) -> None:
    configure("info", "console")
    structlog.get_logger("ours").info("fetch finished", bytes=5)
    text = capsys.readouterr().err
    assert "fetch finished" in text
    assert "bytes=5" in text
    assert not text.startswith("{")
    # No colours where nobody sees them.
    assert "\x1b" not in text


def test_fields_of_the_standard_library_s_loggers_are_shown_too(capsys: Lines) -> None:
    configure("info", "json")
    logging.getLogger("agent.transfer.run").warning("mismatch", extra={"file": "a", "ranges": 2})
    (line,) = lines(capsys)
    assert (line["event"], line["file"], line["ranges"]) == ("mismatch", "a", 2)


def test_too_many_lines_are_left_out_counted_and_told(capsys: Lines) -> None:
    configure("info", "json")
    moment = [0.0]
    (handler,) = logging.getLogger().handlers
    handler.filters[:] = [RateLimit(per_second=1, burst=2, clock=lambda: moment[0])]
    log = structlog.get_logger("ours")
    for number in range(5):
        log.info("again", number=number)
    moment[0] = 1.0
    log.info("later")
    said = [(line["event"], line.get("suppressed")) for line in lines(capsys)]
    assert said == [("again", None), ("again", None), ("later", 3)]
