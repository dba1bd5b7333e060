"""What happened to the copies of each cache since this process began to watch, in a few lines for each cache."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from controller.planning.copies import known_reason
from shared.api.node import ModelState
from shared.domain.reasons import Reason
from shared.domain.storage_key import status_key
from shared.domain.views import CacheView, ReportView, WorkView
from shared.kube.resource import ObjectKey

_MOMENTS: Final = 60  # of one cache: about what a person reads; 300 caches take a few MiB
_NAMED: Final = 3
_TOGETHER: Final = timedelta(seconds=30)  # the same on many nodes within this time is one line


@dataclass(slots=True)
class Moment:
    """`nodes`: the first few of `count`."""

    at: datetime
    state: ModelState
    reason: Reason
    nodes: list[str]
    count: int = 1
    message: str = ""


class Timeline:
    """Told by informers of every change; compares what bears on a copy's state, not its bytes.

    `known`: whether there is such a cache; agents may report anything.
    """

    def __init__(self, now: Callable[[], datetime], *, known: Callable[[str], bool]) -> None:
        self._now = now
        self._known = known
        self._moments: dict[str, deque[Moment]] = {}

    def of(self, key: str) -> Iterable[Moment]:
        return tuple(self._moments.get(key, ()))

    def cache(self, key: ObjectKey, _: CacheView | None, new: CacheView | None) -> None:
        if new is None:
            self._moments.pop(status_key(key.name, key.namespace), None)

    def work(self, key: ObjectKey, old: WorkView | None, new: WorkView | None) -> None:
        if old is None or new is None or old.reports is new.reports:
            return
        for copy, report in new.reports.items():
            was = old.reports.get(copy)
            same = was is not None and (was.state, was.reason) == (report.state, report.reason)
            if not same and self._known(copy):
                self._add(copy, key.name, report)

    def _add(self, key: str, node: str, report: ReportView) -> None:
        if report.completed is not None and report.state is ModelState.DOWNLOADED:
            return  # its time is in the report itself
        reason = known_reason(report.reason, Reason.PENDING)
        moments = self._moments.setdefault(key, deque(maxlen=_MOMENTS))
        now = self._now()
        for last in reversed(moments):
            if now - last.at > _TOGETHER:
                break
            if (last.state, last.reason) == (report.state, reason):
                last.count += 1
                if len(last.nodes) < _NAMED and node not in last.nodes:
                    last.nodes.append(node)
                return
        moments.append(Moment(now, report.state, reason, [node], message=report.message or ""))
