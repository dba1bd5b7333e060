"""What the agent remembers between passes and cannot read from the disk."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from agent.copying.asking import Judgement
from agent.copying.space import LacksSpace
from agent.errors import FetchError, Stalled
from agent.planning.desired import Access, Wanted
from agent.planning.retry import Failure, RetryPolicy, SecretVersions, failed
from agent.planning.status import expects_copies
from agent.planning.world import Published
from shared.api.node import LocalModelNode, LocalModelNodeStatus, ModelState

SecretsSeen = Mapping[Access, SecretVersions]


@dataclass(frozen=True, slots=True)
class Restored:
    """What the last status says of the time before a restart: attempts by storage key, and storage keys by copy."""

    attempts: Mapping[str, int]
    listed: Mapping[str, str]


def restore(status: LocalModelNodeStatus) -> Restored:
    """Reads it out of the status in the API server."""
    models = status.models or ()
    return Restored(
        attempts={
            model.storage_key: model.attempts
            for model in models
            if model.attempts and model.state is not ModelState.DOWNLOADED
        },
        listed={model.key: model.storage_key for model in models},
    )


class Memory:
    """Failures, accesses and settled revisions by storage key."""

    def __init__(
        self, *, policy: RetryPolicy, clock: Callable[[], datetime], jitter: Callable[[], float]
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._jitter = jitter
        self._attempts: dict[str, int] = {}
        self._holder: str | None = None
        self.failures: dict[str, Failure] = {}
        self.granted: dict[str, frozenset[Access]] = {}
        self.refusals: dict[str, dict[Access, Failure]] = {}
        self.settled: dict[str, str] = {}

    def restore(self, attempts: Mapping[str, int]) -> None:
        """Counting goes on where it stood before a restart."""
        self._attempts = dict(attempts)

    def expects_copies(
        self, node: LocalModelNode | None, published: Collection[str] | None = None
    ) -> bool:
        """Whether copies are on the disk: as `published` has it; without that, as it was last known of this node object.

        A disk that is away stays expected until it is back or the object is deleted; the status carries it over a restart.
        """
        uid = node.metadata.uid if node else None
        if published is not None:
            self._holder = uid if published else None
        elif node is not None and expects_copies(node.status):
            self._holder = uid
        return uid is not None and self._holder == uid

    def trust_published(
        self, desired: Mapping[str, Wanted], published: Mapping[str, Published]
    ) -> None:
        """At the first look after a start: what was published then was granted then."""
        for key, wanted in desired.items():
            if key in published:
                self.granted.setdefault(key, frozenset(wanted.accesses))

    def succeeded(self, wanted: Wanted, judgement: Judgement, secrets: SecretsSeen) -> None:
        key = wanted.storage_key
        self.failures.pop(key, None)
        self._attempts.pop(key, None)
        if wanted.revision is not None:
            self.settled[key] = wanted.revision
        self.judged(wanted, judgement, secrets)

    def judged(self, wanted: Wanted, judgement: Judgement, secrets: SecretsSeen) -> None:
        """The source was asked for each access; one that failed keeps the right it had while the reason may pass."""
        key = wanted.storage_key
        before = self.refusals.get(key, {})
        denied = {
            access for access, error in judgement.refusals.items() if isinstance(error, Stalled)
        }
        self.granted[key] = (self.granted.get(key, frozenset()) | judgement.granted) - denied
        self.refusals[key] = {
            access: self._failure(
                wanted, error, before.get(access), {access: secrets.get(access, ())}
            )
            for access, error in judgement.refusals.items()
        }

    def failed(self, wanted: Wanted, error: FetchError, secrets: SecretsSeen) -> Failure:
        key = wanted.storage_key
        failure = self._failure(wanted, error, self.failures.get(key), secrets)
        self.failures[key] = failure
        self._attempts.pop(key, None)
        return failure

    def eviction_failed(self, key: str, error: FetchError) -> Failure:
        before = self.failures.get(key)
        previous = before if before is not None and before.fingerprint is None else None
        failure = failed(
            error,
            previous,
            fingerprint=None,
            now=self._clock(),
            jitter=self._jitter(),
            policy=self._policy,
        )
        self.failures[key] = failure
        return failure

    def forget(self, key: str) -> None:
        """Nothing of it is left on disk."""
        for known in (self.failures, self.granted, self.refusals, self.settled, self._attempts):
            known.pop(key, None)

    def space_came(self, fitting: frozenset[int]) -> None:
        """Copies that lacked space and would have it now are due. fitting: bytes that would be admitted."""
        self._due_now(lambda failure: failure.need in fitting)

    def secrets_changed(self, mended: Failure) -> None:
        """What this copy failed on may have been put right: it is due."""
        self._due_now(lambda failure: failure is mended)

    def _due_now(self, chosen: Callable[[Failure], bool]) -> None:
        now = self._clock()
        for key, failure in self.failures.items():
            if chosen(failure):
                self.failures[key] = replace(failure, next_try=min(failure.next_try, now))
        for refused in self.refusals.values():
            for access, failure in refused.items():
                if chosen(failure):
                    refused[access] = replace(failure, next_try=min(failure.next_try, now))

    def all_failures(self) -> tuple[Failure, ...]:
        refused = (failure for each in self.refusals.values() for failure in each.values())
        return (*self.failures.values(), *refused)

    def _failure(
        self, wanted: Wanted, error: FetchError, previous: Failure | None, secrets: SecretsSeen
    ) -> Failure:
        return failed(
            error,
            previous,
            fingerprint=wanted.fingerprint,
            now=self._clock(),
            jitter=self._jitter(),
            policy=self._policy,
            earlier_attempts=self._attempts.get(wanted.storage_key, 0),
            secrets=tuple((access, seen) for access, seen in secrets.items() if access.named),
            need=error.need if isinstance(error, LacksSpace) else None,
        )
