"""What went wrong with a copy, typed by what happens next.

FetchError
├── Retryable      tried again with exponential backoff, for ever
│   └── SourceChanged   the source's content changed under us: resolve again at once
└── Stalled        shown with its reason, retried slowly, and soon after the spec or a secret changes
"""

from shared.domain.printable import clean
from shared.domain.reasons import Reason


class FetchError(Exception):
    """A copy could not be made. `message` is for a person and never holds a credential, a query string or a control character."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        self.message = clean(message)
        super().__init__(self.message)


class Retryable(FetchError):
    """Worth another try. `after`: seconds that the source asked us to wait, if it did."""

    def __init__(self, reason: Reason, message: str, *, after: float | None = None) -> None:
        super().__init__(reason, message)
        self.after = after


class SourceChanged(Retryable):
    """What was resolved is no longer what the source serves."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.SOURCE_CHANGED, message)


class Stalled(FetchError):
    """Trying again without a change would fail the same way."""
