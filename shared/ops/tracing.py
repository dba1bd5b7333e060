"""Traces by OpenTelemetry, when the standard OTEL_* variables ask for them; else nothing of it is even imported."""

import logging
import os
from collections.abc import Iterable, Mapping
from threading import Thread
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# What is still to be sent at the end must not hold up a pod that stops.
_CLOSE_SECONDS: Final = 3.0
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

log = logging.getLogger(__name__)


class Step(NamedTuple):
    """A part of something, by the monotonic clock; one that did not succeed ended in an error."""

    name: str
    started: float
    ended: float
    succeeded: bool = True


class Traces:
    """Where finished work is told. Never waits: what cannot be sent in time is dropped (OTEL_BSP_MAX_QUEUE_SIZE)."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        """provider: None = nobody asks."""
        self._provider = provider

    def record(
        self,
        name: str,
        steps: Iterable[Step],
        *,
        began: float,
        attributes: Mapping[str, str | int],
        error: str | None = None,
    ) -> None:
        """Something ended just now, and its steps are its children. error: why it failed."""
        if self._provider is None:
            return
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        # Spans have the time of day; it is asked once, so that a clock that is set meanwhile bends none of them.
        ended, now = monotonic(), time_ns()

        def at(moment: float) -> int:
            return now - int((ended - moment) * 1e9)

        tracer = self._provider.get_tracer("localmodel")
        span = tracer.start_span(name, start_time=at(began), attributes=attributes)
        below = set_span_in_context(span)
        for step in steps:
            child = tracer.start_span(step.name, below, start_time=at(step.started))
            if not step.succeeded:
                child.set_status(Status(StatusCode.ERROR))
            child.end(at(step.ended))
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(now)

    def close(self) -> None:
        """Sends what is left, for a few seconds at most. Blocks."""
        if self._provider is not None:
            last = Thread(target=self._provider.shutdown, name="traces", daemon=True)
            last.start()
            last.join(_CLOSE_SECONDS)


def open_traces(program: str, about: Mapping[str, str]) -> Traces:
    """As OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_* and their like say; off when none of them does.

    about: what all spans of this process have in common.
    """
    if not _wanted():
        return Traces()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("OTEL_* variables ask for traces, but the extra localmodel[tracing] is missing")
        return Traces()
    own = Resource({"service.name": program, **about})
    provider = TracerProvider(
        resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider)


def _wanted() -> bool:
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    named = any(os.environ.get(name) for name in _ENDPOINTS)
    if disabled or exporter == "none" or not (exporter or named):
        return False
    if exporter not in {"", "otlp"}:
        log.warning("OTEL_TRACES_EXPORTER=%s is not supported: otlp or none", exporter[:100])
        return False
    protocol = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), "")
    if protocol not in {"", "http/protobuf"}:
        log.warning("traces are sent by http/protobuf, not by OTLP protocol %s", protocol[:100])
        return False
    return True
