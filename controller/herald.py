"""Events on nodes: what became of the copies there. A thousand nodes at once are told of in part; their statuses tell all."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import structlog

from controller.actions import Announcement
from controller.planning.announce import node_news
from shared.domain.placement import Waiting
from shared.domain.reasons import Reason
from shared.domain.views import CacheView, NodeView, WorkView
from shared.kube.events import EventRecorder, ObjectRef
from shared.kube.ratelimit import TokenBucket
from shared.kube.resource import NODES

# Over all nodes: what a person might read, and a small share of what the API server can take.
_A_SECOND: Final = 5.0
_AT_ONCE: Final = 50
_NAMED_NODES: Final = 10

log = structlog.get_logger(__name__)


class Herald:
    """Warnings have a budget of their own, so that good news never crowd them out. `clock` is monotonic."""

    def __init__(self, recorder: EventRecorder, clock: Callable[[], float]) -> None:
        self._recorder = recorder
        self._clock = clock
        self._budgets = {
            "Normal": TokenBucket(_A_SECOND, _AT_ONCE),
            "Warning": TokenBucket(_A_SECOND, _AT_ONCE),
        }

    def work(self, node: NodeView, was: WorkView, now: WorkView) -> None:
        """The node's work list or its agent's answer changed."""
        if was.reports is now.reports and was.entries == now.entries:
            return
        for news in node_news(was, now):
            self._tell(node, news)

    def lacks_space(self, node: NodeView, lacking: Mapping[str, Waiting]) -> None:
        first = min(lacking)
        others = f" (and {len(lacking) - 1} more caches)" if len(lacking) > 1 else ""
        message = f"cache {first} {lacking[first].message}{others}"
        self._tell(node, Announcement("Warning", Reason.NO_SPACE, message))

    def unconfirmed(self, node: NodeView, cache: CacheView) -> None:
        message = f"cache {cache.key} was deleted without an answer from here: its copy is removed when the agent returns"
        self._tell(node, Announcement("Warning", Reason.COPY_UNCONFIRMED, message))

    def heard(self, silent: AbstractSet[str], now_silent: AbstractSet[str]) -> None:
        """In the log: agents that fell silent, or came back."""
        lost, back = sorted(now_silent - silent), sorted(silent - now_silent)
        if lost:
            log.warning("agents fell silent", nodes=lost[:_NAMED_NODES], count=len(lost))
        if back:
            log.info("agents came back", nodes=back[:_NAMED_NODES], count=len(back))

    def _tell(self, node: NodeView, news: Announcement) -> None:
        if self._budgets[news.type].try_take(self._clock()):
            regarding = ObjectRef(NODES.api_version, NODES.kind, node.name, node.uid)
            self._recorder.event(
                regarding, type=news.type, reason=news.reason, message=news.message, action="Place"
            )
