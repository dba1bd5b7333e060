"""Builders for the agent's planners: every argument has a default that means "nothing special"."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from agent.errors import Retryable, Stalled
from agent.planning.desired import Fingerprint, Wanted, group, read_work_list
from agent.planning.retry import Failure
from agent.planning.world import Disk, Published, Running, Work, World
from shared.api.cache import Storage
from shared.api.node import LocalModelInfo
from shared.domain.patterns import EVERYTHING, Selection, Selections
from shared.domain.reasons import Reason
from shared.domain.storage_key import storage_key

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
URI = "s3://models/llama"
KEY = storage_key(URI)
ALL = Selections((EVERYTHING,))


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def line(
    name: str = "llama",
    uri: str = URI,
    *,
    namespace: str | None = None,
    account: str | None = None,
    storage: str | None = None,
    allow: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    revision: str | None = None,
    retry: str | None = None,
    size: str | None = None,
) -> LocalModelInfo:
    return LocalModelInfo(
        source_model_uri=uri,
        model_name=name,
        namespace=namespace,
        service_account_name=account,
        storage=Storage(key=storage) if storage else None,
        allow_patterns=tuple(allow) if allow is not None else None,
        ignore_patterns=tuple(ignore) if ignore is not None else None,
        revision=revision,
        retry=retry,
        model_size=size,
    )


def wanted(*lines: LocalModelInfo) -> Wanted:
    (found,) = group(read_work_list(lines or (line(),))).values()
    return found


def published(
    uri: str = URI, *, revision: str = "r1", allow: Sequence[str] | None = None, size: int = 10
) -> Published:
    selection = Selections((Selection(tuple(allow)),)) if allow is not None else ALL
    return Published(
        storage_key(uri), uri, revision, selection, size, 2, NOW - timedelta(hours=1), "sha256"
    )


def fetching(
    fingerprint: Fingerprint | None = None, *, revision: str | None = None, pinned: bool = True
) -> Running:
    return Running(Work.FETCH, fingerprint or wanted().fingerprint, revision, pinned)


def failure(
    *,
    next_try: datetime,
    fingerprint: Fingerprint | None = None,
    attempts: int = 1,
    stalled: bool = False,
    reason: Reason = Reason.SOURCE_UNREACHABLE,
    message: str = "no answer",
) -> Failure:
    return Failure(
        reason=reason,
        message=message,
        stalled=stalled,
        attempts=attempts,
        at=NOW - timedelta(seconds=10),
        next_try=next_try,
        fingerprint=fingerprint or wanted().fingerprint,
    )


def disk(*trees: Published, checked: bool = True, **more: object) -> Disk:
    """Trees that were looked at just now, unless `checked` is False."""
    moments = {tree.storage_key: NOW for tree in trees} if checked else {}
    return Disk(
        published={tree.storage_key: tree for tree in trees},
        checked=moments,
        **more,  # type: ignore[arg-type]  # the caller names Disk's own fields
    )


def world(
    *lines: LocalModelInfo, disk: Disk | None = None, known: bool = True, **more: object
) -> World:
    """The work list in the lines; accesses of what is published are granted."""
    desired = group(read_work_list(lines)) if known else None
    disk = disk or Disk()
    granted = {
        key: frozenset(want.accesses)
        for key, want in (desired or {}).items()
        if key in disk.published
    }
    return World(
        now=NOW,
        desired=desired,
        disk=disk,
        **{"granted": granted, **more},  # type: ignore[arg-type]  # the caller names World's own fields
    )


def uris(count: int) -> Iterable[str]:
    return (f"s3://models/m{number}" for number in range(count))


def unreachable(after_seconds: float | None = None) -> Retryable:
    return Retryable(Reason.SOURCE_UNREACHABLE, "no answer", after=after_seconds)


def not_found() -> Stalled:
    return Stalled(Reason.SOURCE_NOT_FOUND, "there is no such object")
