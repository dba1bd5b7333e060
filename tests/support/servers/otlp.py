"""A collector of traces on loopback: OTLP over HTTP, with protobuf."""

import threading
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.support.processes import wait_until
from tests.support.servers.threaded import ThreadedApp


@dataclass(frozen=True)
class Span:
    """start, end: nanoseconds since 1970. resource: what its program says of itself."""

    name: str
    id: bytes
    parent: bytes
    start: int
    end: int
    failed: bool
    message: str
    attributes: dict[str, Any] = field(default_factory=dict)
    resource: dict[str, Any] = field(default_factory=dict)


class Collector(ThreadedApp):
    """`with Collector() as collector:` — `collector.url` is the OTLP endpoint, `collector.spans` what came so far."""

    def __init__(self) -> None:
        super().__init__("otlp")
        self.bodies: list[bytes] = []
        self._spans: list[Span] = []
        self._lock = threading.Lock()
        self.app.router.add_post("/v1/traces", self._take)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def spans(self) -> list[Span]:
        with self._lock:
            return list(self._spans)

    def wait_for(self, name: str, *, seconds: float = 30) -> Span:
        """The first span of that name."""
        wait_until(
            lambda: any(span.name == name for span in self.spans), seconds=seconds, what=name
        )
        return next(span for span in self.spans if span.name == name)

    def below(self, parent: Span) -> list[Span]:
        """Its children in the order in which they began."""
        found = [span for span in self.spans if span.parent == parent.id]
        return sorted(found, key=lambda span: span.start)

    async def _take(self, asked: web.Request) -> web.Response:
        assert asked.content_type == "application/x-protobuf"
        body = await asked.read()
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.bodies.append(body)
            for group in request.resource_spans:
                resource = _plain(group.resource.attributes)
                for scope in group.scope_spans:
                    self._spans += [_span(one, resource) for one in scope.spans]
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )


def _span(one: Any, resource: dict[str, Any]) -> Span:
    return Span(
        name=one.name,
        id=one.span_id,
        parent=one.parent_span_id,
        start=one.start_time_unix_nano,
        end=one.end_time_unix_nano,
        failed=one.status.code == Status.STATUS_CODE_ERROR,
        message=one.status.message,
        attributes=_plain(one.attributes),
        resource=resource,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value")
        for one in attributes
    }
