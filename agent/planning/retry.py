"""What became of a failed attempt, and when the next one is due."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.errors import FetchError, Retryable, Stalled
from agent.planning.desired import Access, Fingerprint
from shared.domain.backoff import delay
from shared.domain.reasons import Reason

# A source may ask for a pause (Retry-After), but not for more than this: a wrong clock there must not stop us.
_LONGEST_PAUSE = 3600.0

SecretVersions = tuple[tuple[str, str], ...]
"""Kind/name and resourceVersion of every object that an access reads; "" for one that is missing."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds. Retryable failures wait base × 2ⁿ up to cap, stalled ones `stalled`; both ± 20 %."""

    base: float = 5.0
    cap: float = 300.0
    stalled: float = 600.0

    @property
    def longest(self) -> timedelta:
        """No failure waits longer than this; a clock that was set back must not make it so."""
        return timedelta(seconds=max(_LONGEST_PAUSE, self.cap, self.stalled) * 1.2 + 1)


@dataclass(frozen=True, slots=True)
class Failure:
    """A copy's last attempt. `secrets`: versions that were read, per access; `need`: bytes, when space was short."""

    reason: Reason
    message: str
    stalled: bool
    attempts: int
    at: datetime
    next_try: datetime
    fingerprint: Fingerprint | None = None
    secrets: tuple[tuple[Access, SecretVersions], ...] = ()
    need: int | None = None


def failed(
    error: FetchError,
    previous: Failure | None,
    *,
    fingerprint: Fingerprint | None,
    now: datetime,
    jitter: float,
    policy: RetryPolicy,
    earlier_attempts: int = 0,
    secrets: tuple[tuple[Access, SecretVersions], ...] = (),
    need: int | None = None,
) -> Failure:
    """The failure that follows `previous`; attempts count from the last success or change of the work list.

    `earlier_attempts`: what the status says of the time before a restart, when there is no `previous`.
    """
    if previous is None:
        attempts = earlier_attempts + 1
    elif previous.fingerprint == fingerprint:
        attempts = previous.attempts + 1
    else:
        attempts = 1
    stalled = isinstance(error, Stalled)
    if stalled:
        wait = delay(1, base=policy.stalled, cap=policy.stalled, jitter=jitter)
    else:
        wait = delay(attempts, base=policy.base, cap=policy.cap, jitter=jitter)
        if isinstance(error, Retryable) and error.after is not None:
            wait = max(wait, min(error.after, _LONGEST_PAUSE))
    return Failure(
        reason=error.reason,
        message=error.message,
        stalled=stalled,
        attempts=attempts,
        at=now,
        next_try=now + timedelta(seconds=wait),
        fingerprint=fingerprint,
        secrets=secrets,
        need=need,
    )


def is_due(
    failure: Failure, fingerprint: Fingerprint | None, *, now: datetime, policy: RetryPolicy
) -> bool:
    """Whether the copy is tried again now: its time has come, or what it depends on changed."""
    return (
        failure.fingerprint != fingerprint
        or now >= failure.next_try
        or failure.next_try - now > policy.longest
    )
