"""Raw JSON of caches and LocalModelNodes → what the pages need of them. Pure; what cannot be read is left out."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.api.cache import NodeState
from shared.api.node import ModelState
from shared.domain import parse
from shared.domain.storage_key import status_key
from shared.domain.views import NOTHING, CacheView

Wire = Mapping[str, Any]
_USERS = (("inferenceServices", ""), ("llmInferenceServices", "llm "))


@dataclass(frozen=True, slots=True)
class Told:
    """A condition."""

    status: str
    reason: str
    message: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """`view` is what the planner needs. Bytes; `states` by node; `services` as `namespace/name`."""

    view: CacheView
    observed: int | None
    created: datetime | None
    conditions: Mapping[str, Told]
    copies: Mapping[str, int]
    states: Mapping[str, NodeState]
    done: int
    total: int
    services: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.view.key

    @property
    def kind(self) -> str:
        return self.view.kind

    @property
    def ready(self) -> bool:
        return self._holds("Ready")

    @property
    def stalled(self) -> bool:
        return self._holds("Stalled")

    @property
    def headline(self) -> Told | None:
        """What Ready says; None before the controller has looked."""
        return self.conditions.get("Ready")

    def _holds(self, type: str) -> bool:
        told = self.conditions.get(type)
        return told is not None and told.status == "True"


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent says of one copy. Bytes; rate in bytes per second."""

    key: str
    state: ModelState
    storage_key: str | None = None
    reason: str | None = None
    message: str | None = None
    revision: str | None = None
    total: int | None = None
    done: int | None = None
    rate: int | None = None
    attempts: int | None = None
    started: datetime | None = None
    completed: datetime | None = None
    retry_at: datetime | None = None
    verified_by: str | None = None


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A LocalModelNode. `lines`: keys of the work list with their groups. Disk in bytes, None when no agent has reported."""

    name: str
    generation: int
    observed: int | None
    lines: Mapping[str, str | None]
    reports: Mapping[str, Report]
    capacity: int | None = None
    available: int | None = None
    kept: int = 0
    """Free, and kept so by the agent."""
    used: int | None = None
    reserved: int | None = None
    version: str | None = None
    host_path: str | None = None
    started: datetime | None = None
    conditions: Mapping[str, Told] = field(default_factory=dict)
    said: datetime | None = None
    """When the status changed last."""


def cache_facts(raw: Wire) -> CacheFacts:
    meta, status = _section(raw, "metadata"), _section(raw, "status")
    copies, progress = _section(status, "copies"), _section(status, "progress")
    return CacheFacts(
        view=parse.cache(raw),
        observed=_int(status.get("observedGeneration")),
        created=moment(meta.get("creationTimestamp")),
        conditions=_conditions(status),
        copies={name: value for name, value in copies.items() if isinstance(value, int)},
        states={
            str(node): _node_state(state) for node, state in _section(status, "nodeStatus").items()
        },
        done=_int(progress.get("bytesDone")) or 0,
        total=_int(progress.get("bytesTotal")) or 0,
        services=tuple(
            f"{mark}{service.get('namespace', '')}/{service.get('name', '')}"
            for field_, mark in _USERS
            for service in status.get(field_) or ()
            if isinstance(service, dict)
        ),
    )


def node_facts(raw: Wire, *, only: Container[str] | None = None) -> NodeFacts:
    """`only`: keys of the caches that matter; None = all."""
    meta, status = _section(raw, "metadata"), _section(raw, "status")
    disk, agent = _section(status, "storage"), _section(status, "agent")
    lines = {}
    for line in _section(raw, "spec").get("localModels") or ():
        key = status_key(str(line.get("modelName", "")), _text(line.get("namespace")))
        if only is None or key in only:
            lines[key] = _text(line.get("nodeGroup"))
    return NodeFacts(
        name=str(meta["name"]),
        generation=_int(meta.get("generation")) or 0,
        observed=_int(status.get("observedGeneration")),
        lines=lines,
        reports=_reports(status, only),
        capacity=_int(disk.get("capacityBytes")),
        available=_int(disk.get("availableBytes")),
        kept=_int(disk.get("keptFreeBytes")) or 0,
        used=_int(disk.get("usedBytes")),
        reserved=_int(disk.get("reservedBytes")),
        version=_text(agent.get("version")),
        host_path=_text(agent.get("hostPath")),
        started=moment(agent.get("startTime")),
        conditions=_conditions(status),
        said=max(
            (
                found
                for owner in meta.get("managedFields") or ()
                if owner.get("subresource") == "status"
                and (found := moment(owner.get("time"))) is not None
            ),
            default=None,
        ),
    )


def moment(value: object) -> datetime | None:
    """RFC 3339, as the API writes times."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _reports(status: Wire, only: Container[str] | None) -> dict[str, Report]:
    """KServe's agent gives states alone."""
    found = {
        key: Report(key, _model_state(state))
        for key, state in _section(status, "modelStatus").items()
        if only is None or key in only
    }
    for raw in status.get("models") or ():
        key = _text(raw.get("key"))
        if key is not None and (only is None or key in only):
            found[key] = Report(
                key=key,
                state=_model_state(raw.get("state")),
                storage_key=_text(raw.get("storageKey")),
                reason=_text(raw.get("reason")),
                message=_text(raw.get("message")),
                revision=_text(raw.get("revision")),
                total=_int(raw.get("bytesTotal")),
                done=_int(raw.get("bytesDone")),
                rate=_int(raw.get("bytesPerSecond")),
                attempts=_int(raw.get("attempts")),
                started=moment(raw.get("startTime")),
                completed=moment(raw.get("completionTime")),
                retry_at=moment(raw.get("nextRetryTime")),
                verified_by=_text(raw.get("verifiedBy")),
            )
    return found


def _conditions(status: Wire) -> dict[str, Told]:
    return {
        str(raw.get("type")): Told(
            status=str(raw.get("status", "Unknown")),
            reason=str(raw.get("reason", "")),
            message=str(raw.get("message", "")),
            since=moment(raw.get("lastTransitionTime")),
        )
        for raw in status.get("conditions") or ()
        if isinstance(raw, dict)
    }


def _node_state(value: object) -> NodeState:
    return NodeState(value) if value in _NODE_STATES else NodeState.UNKNOWN


def _model_state(value: object) -> ModelState:
    return ModelState(value) if value in _MODEL_STATES else ModelState.UNKNOWN


def _section(raw: Wire, name: str) -> Wire:
    value = raw.get(name)
    return value if isinstance(value, dict) else NOTHING


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_NODE_STATES = frozenset(state.value for state in NodeState)
_MODEL_STATES = frozenset(state.value for state in ModelState)
