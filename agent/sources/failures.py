"""HTTP statuses of any source → what happens next."""

from collections.abc import Iterator
from contextlib import contextmanager

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from shared.domain.reasons import Reason


def http_failure(status: int, what: str, *, after: float | None = None) -> FetchError:
    """The error for an answer that is not a success. `what` names the object as a person knows it, without query."""
    match status:
        case 404 | 410:
            return Stalled(Reason.SOURCE_NOT_FOUND, f"{what} does not exist")
        case 401:
            return Stalled(Reason.ACCESS_DENIED, f"{what} needs other credentials (401)")
        case 403 | 407 | 451:
            return Stalled(Reason.ACCESS_DENIED, f"access to {what} is denied ({status})")
        case 412:
            return SourceChanged(f"{what} changed at its source")
        case 429 | 503:
            return Retryable(
                Reason.SOURCE_THROTTLED, f"{what}: the source is busy ({status})", after=after
            )
        case 408 | 425:
            return Retryable(Reason.SOURCE_ERROR, f"{what}: the source answered {status}")
        case _ if status >= 500:
            return Retryable(
                Reason.SOURCE_ERROR, f"{what}: the source answered {status}", after=after
            )
        case _:
            return Stalled(Reason.INVALID_SOURCE, f"{what}: the source refused with {status}")


def unreachable(what: str, why: str) -> Retryable:
    return Retryable(Reason.SOURCE_UNREACHABLE, f"{what} cannot be reached: {why}")


@contextmanager
def listed(path: str) -> Iterator[None]:
    """A file that was listed and is not there any more: the model changed, and the next listing tells to what."""
    try:
        yield
    except Stalled as exc:
        if exc.reason is not Reason.SOURCE_NOT_FOUND:
            raise
        raise SourceChanged(f"{path} is gone") from exc


def already_told(error: BaseException) -> FetchError | None:
    """The `FetchError` that a foreign library wrapped, such as our resolver's refusal, if there is one."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, FetchError):
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None
