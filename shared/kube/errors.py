"""What the API server answered, or that it did not.

ApiError
├── NotFound 404          ├── TooManyRequests 429
├── Conflict 409          ├── ServerUnavailable 5xx
│   └── AlreadyExists     ├── Unreachable   no answer: connection, TLS, timeout
├── Gone 410              └── Fenced        we may no longer write (leadership is over)
├── Invalid 400, 422
├── Unauthorized 401
└── Forbidden 403
"""

from typing import Any


class ApiError(Exception):
    """A request to the API server failed. `status` is 0 when there was no answer."""

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class NotFound(ApiError): ...


class Conflict(ApiError): ...


class AlreadyExists(Conflict): ...


class Gone(ApiError): ...


class Invalid(ApiError): ...


class Unauthorized(ApiError): ...


class Forbidden(ApiError): ...


class TooManyRequests(ApiError): ...


class ServerUnavailable(ApiError): ...


class Unreachable(ApiError): ...


class Fenced(ApiError): ...


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def from_status(status: int, body: Any, *, retry_after: float | None = None) -> ApiError:
    """The error for an HTTP status and the `Status` object (or anything else) that came with it."""
    detail = body if isinstance(body, dict) else {}
    reason = str(detail.get("reason") or "")
    message = str(detail.get("message") or f"the API server answered {status}")
    if status == 409 and reason == "AlreadyExists":
        kind: type[ApiError] = AlreadyExists
    else:
        kind = _BY_STATUS.get(status, ServerUnavailable if status >= 500 else ApiError)
    return kind(message, status=status, reason=reason, retry_after=retry_after)
